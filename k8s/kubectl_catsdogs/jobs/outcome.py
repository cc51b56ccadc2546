"""How a run ended: one line, and the exit code of commands that followed it. Pure."""

import re
from typing import NamedTuple

from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.chart import terminated
from kubectl_catsdogs.base.exit_codes import EXIT_CODES
from kubectl_catsdogs.base.objects import Object, condition, dig, name_of
from kubectl_catsdogs.base.text import plural
from kubectl_catsdogs.jobs.job_log import last_text

UNKNOWN = 1
"""The exit code where it is only known that the run failed."""
INTERRUPTED = 75


class Outcome(NamedTuple):
    text: str
    exit_code: int


def outcome(job: Object, pods: list[Object], gone: bool = False) -> Outcome | None:
    """Return how the run ended, None while it has not.

    `pods` are the run's, oldest first, each as it was last seen. `gone` means that the Job was deleted.
    """
    run = f"run {chart.run_id(job)}"
    last = last_end(pods)
    code = int(dig(terminated(last) if last else None, "exitCode", default=UNKNOWN))
    if condition(job, "Complete") or (gone and last and code == 0):
        return Outcome(f"{run} is complete; its result is at {chart.result(job)}/", 0)
    if failed := condition(job, "Failed"):
        named = re.search(r"exit code (\d{1,3})\b", str(failed.get("message")))
        if failed.get("reason") == "PodFailurePolicy" and named:
            code = int(named[1])
        return Outcome(f"{run} failed: {_reason(job, failed, last, code)}", code or UNKNOWN)
    if gone:
        return Outcome(f"{run} was removed: its Job {name_of(job)} is deleted", code or UNKNOWN)
    if stopped(job) and pods:
        code = code if last else INTERRUPTED
        text = f"{run} was stopped: its Job {name_of(job)} is suspended; {meaning(code)}"
        return Outcome(text, code or INTERRUPTED)
    return None


def last_end(pods: list[Object]) -> Object | None:
    """Return the pod whose end is the run's, None while none has ended. `pods` are sorted oldest first.

    Of several workers' last pods that is the first that ended of its own accord, as the others then stop in order.
    """
    last = chart.newest_of_workers([pod for pod in pods if terminated(pod)])
    of_own_accord = [pod for pod in last if dig(terminated(pod), "exitCode") not in (0, INTERRUPTED)]
    interrupted = [pod for pod in last if dig(terminated(pod), "exitCode") == INTERRUPTED]
    return min(of_own_accord or interrupted or last, key=_end_time, default=None)


def _end_time(pod: Object) -> str:
    return str(dig(terminated(pod), "finishedAt", default=""))


def stopped(job: Object) -> bool:
    """Return whether somebody suspended the Job, and its pods have ended. Kueue resumes its own Jobs."""
    status = job.get("status") or {}
    by_hand = bool(dig(job, "spec", "suspend")) and dig(job, "metadata", "labels", chart.QUEUE) is None
    return by_hand and not status.get("active") and not status.get("terminating")


def meaning(code: int) -> str:
    """'exit code 65 (bad data: …)'."""
    known = {137: "killed", 143: "ended by SIGTERM"} | {number: entry.meaning for number, entry in EXIT_CODES.items()}
    return f"exit code {code}" + (f" ({known[code]})" if code in known else "")


def end_of(pod: Object) -> str | None:
    """Return a line about a pod that has ended without success."""
    end = terminated(pod)
    if end is None:
        reason = dig(pod, "status", "reason")
        return f"pod {name_of(pod)} ended: {reason}" if dig(pod, "status", "phase") == "Failed" and reason else None
    if end.get("exitCode") == 0:
        return None
    reason = "" if end.get("reason") in ("Error", None) else f", {end['reason']}"
    return f"pod {name_of(pod)} ended with {meaning(int(end.get('exitCode', UNKNOWN)))}{reason}"


def last_message(pod: Object | None) -> str | None:
    """Return the last line that people read of the container's termination message, which ends as its log does."""
    return last_text(str(dig(terminated(pod) if pod else None, "message", default="")).splitlines())


def _reason(job: Object, failed: Object, last: Object | None, code: int) -> str:
    reason, message = failed.get("reason"), failed.get("message") or ""
    if reason == "DeadlineExceeded":
        return f"it ran longer than job.activeDeadlineSeconds, {dig(job, 'spec', 'activeDeadlineSeconds')} s, allows"
    if reason == "BackoffLimitExceeded":
        failures = dig(job, "status", "failed")
        text = f"{meaning(code)} in the last of {plural(failures, 'attempt') if failures else 'its attempts'}"
    else:
        text = meaning(code) if reason == "PodFailurePolicy" else f"{reason}: {message}"
    last_line = last_message(last)
    return f"{text}: {last_line}" if last_line else text
