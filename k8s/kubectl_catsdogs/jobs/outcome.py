"""How a run ended, in a line, and the exit code for whoever followed it. Pure."""

import re
from typing import NamedTuple

from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, condition, dig, name_of, terminated

LOST = 1
"""The exit code where it is only known that the run failed."""
STOPPED = 75


class Outcome(NamedTuple):
    text: str
    exit_code: int


def outcome(job: Object, pods: list[Object], gone: bool = False) -> Outcome | None:
    """Of a Job and its pods, oldest first, each as seen last; None while it goes on. `gone`: the Job was deleted."""
    run = f"run {contract.run_id(job)}"
    last = last_end(pods)
    code = int(dig(terminated(last) if last else None, "exitCode", default=LOST))
    if condition(job, "Complete") or (gone and last and code == 0):
        return Outcome(f"{run} is complete; its result is at {contract.result(job)}/", 0)
    if failed := condition(job, "Failed"):
        told = re.search(r"exit code (\d+)", str(failed.get("message")))
        if failed.get("reason") == "PodFailurePolicy" and told:
            code = int(told[1])
        return Outcome(f"{run} failed: {_why(job, failed, last, code)}", code or LOST)
    if gone:
        return Outcome(f"{run} was removed: its Job {name_of(job)} is deleted", code or LOST)
    if stopped(job) and pods:
        code = code if last else STOPPED
        return Outcome(f"{run} was stopped: its Job {name_of(job)} is suspended; {meaning(code)}", code or STOPPED)
    return None


def last_end(pods: list[Object]) -> Object | None:
    """Of pods, oldest first, the one whose end is the run's; None while none has ended.

    The last; of several workers' last ones the first to end of its own accord, since those that are left end in order.
    """
    last = contract.newest_of_workers([pod for pod in pods if terminated(pod)])
    of_own_accord = [pod for pod in last if dig(terminated(pod), "exitCode") not in (0, STOPPED)]
    in_order = [pod for pod in last if dig(terminated(pod), "exitCode") == STOPPED]
    return min(of_own_accord or in_order or last, key=_end_time, default=None)


def _end_time(pod: Object) -> str:
    return str(dig(terminated(pod), "finishedAt", default=""))


def stopped(job: Object) -> bool:
    """Whether it was suspended, by hand, after it had begun, and has no pod left. Kueue's Jobs go on by themselves."""
    status = job.get("status") or {}
    by_hand = bool(dig(job, "spec", "suspend")) and dig(job, "metadata", "labels", contract.QUEUE) is None
    return by_hand and not status.get("active") and not status.get("terminating")


def meaning(code: int) -> str:
    """'exit code 65 (bad data: …)'."""
    known = {137: "killed", 143: "ended by SIGTERM"} | {
        number: text for number, (text, *_) in contract.EXIT_CODES.items()
    }
    return f"exit code {code}" + (f" ({known[code]})" if code in known else "")


def end_of(pod: Object) -> str | None:
    """What there is to say of a pod that has ended without success."""
    end = terminated(pod)
    if end is None:
        reason = dig(pod, "status", "reason")
        return f"pod {name_of(pod)} ended: {reason}" if dig(pod, "status", "phase") == "Failed" and reason else None
    if end.get("exitCode") == 0:
        return None
    reason = "" if end.get("reason") in ("Error", None) else f", {end['reason']}"
    return f"pod {name_of(pod)} ended with {meaning(int(end.get('exitCode', LOST)))}{reason}"


def _why(job: Object, failed: Object, last: Object | None, code: int) -> str:
    reason, message = failed.get("reason"), failed.get("message") or ""
    if reason == "DeadlineExceeded":
        return f"it ran longer than job.activeDeadlineSeconds, {dig(job, 'spec', 'activeDeadlineSeconds')} s, allows"
    said = [line for line in str(dig(terminated(last) if last else None, "message", default="")).splitlines() if line]
    if reason == "BackoffLimitExceeded":
        why = f"{meaning(code)} in the last of {dig(job, 'status', 'failed', default='its')} attempts"
    else:
        why = meaning(code) if reason == "PodFailurePolicy" else f"{reason}: {message}"
    return f"{why}: {said[-1]}" if said else why
