"""Which state a run is in, and the command that resumes a suspended one. Pure."""

from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.chart import terminated
from kubectl_catsdogs.base.objects import Object, condition, dig, name_of
from kubectl_catsdogs.base.text import shell_command
from kubectl_catsdogs.jobs.outcome import INTERRUPTED, UNKNOWN, last_end, outcome, stopped

LIVE = ("Pending", "Running", "Stopping")
"""States of a run that has pods."""


def is_active(job: Object) -> bool:
    """Return whether the run has neither ended nor been stopped."""
    return not condition(job, "Complete") and not condition(job, "Failed") and not stopped(job)


def state_of(job: Object, pods: list[Object]) -> tuple[str, int | None]:
    """Return state and exit code of a run; `runs.Run` lists the states. `pods` are sorted oldest first."""
    last = last_end(pods)
    code = dig(terminated(last), "exitCode") if last else None
    if condition(job, "Complete"):
        return "Succeeded", 0
    if condition(job, "Failed"):
        ended = outcome(job, pods)
        # UNKNOWN may stand for an exit code that nobody knows any more.
        return "Failed", code if ended is None or ended.exit_code == UNKNOWN else ended.exit_code
    live = [pod for pod in pods if dig(pod, "status", "phase") in (None, "Pending", "Running")]
    if dig(job, "spec", "suspend"):
        suspended = "Queued" if dig(job, "metadata", "labels", chart.QUEUE) is not None else "Suspended"
        return "Stopping" if live else suspended, code
    if dig(job, "metadata", "deletionTimestamp") or (live and dig(live[-1], "metadata", "deletionTimestamp")):
        return "Stopping", code
    if live:
        # Workers wait until all of them run.
        started = {chart.worker_of(pod) for pod in pods if dig(pod, "status", "phase") in ("Running", "Succeeded")}
        return "Running" if len(started) == chart.workers(job) else "Pending", code
    if code is None:
        return "Pending", None
    return "Interrupted" if code == INTERRUPTED else "Retrying", code


def running(pods: list[Object]) -> int:
    return sum(dig(pod, "status", "phase") == "Running" for pod in pods)


def resume_command(job: Object) -> str:
    """Return the command that resumes a suspended run."""
    namespace = str(dig(job, "metadata", "namespace", default="default"))
    return shell_command("kubectl", "patch", "job", name_of(job), "-n", namespace, "-p", '{"spec":{"suspend":false}}')
