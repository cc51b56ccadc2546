"""In which state a run is, and the command that resumes a suspended one. Pure."""

from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, condition, dig, name_of, terminated
from kubectl_catsdogs.jobs.outcome import LOST, STOPPED, last_end, outcome, stopped

LIVE = ("Pending", "Running", "Stopping")
"""States of a run that has pods."""


def is_going(job: Object) -> bool:
    return not condition(job, "Complete") and not condition(job, "Failed") and not stopped(job)


def state_of(job: Object, pods: list[Object]) -> tuple[str, int | None]:
    """State and exit code, of a Job and its pods, oldest first."""
    last = last_end(pods)
    code = dig(terminated(last), "exitCode") if last else None
    if condition(job, "Complete"):
        return "Succeeded", 0
    if condition(job, "Failed"):
        ended = outcome(job, pods)
        # 1 may stand for a code that nobody knows any more.
        return "Failed", code if ended is None or ended.exit_code == LOST else ended.exit_code
    going = [pod for pod in pods if dig(pod, "status", "phase") in (None, "Pending", "Running")]
    if dig(job, "spec", "suspend"):
        waits = "Queued" if dig(job, "metadata", "labels", contract.QUEUE) is not None else "Suspended"
        return "Stopping" if going else waits, code
    if dig(job, "metadata", "deletionTimestamp") or (going and dig(going[-1], "metadata", "deletionTimestamp")):
        return "Stopping", code
    if going:
        # Several workers wait for the last of them.
        there = {contract.worker_of(pod) for pod in pods if dig(pod, "status", "phase") in ("Running", "Succeeded")}
        return "Running" if len(there) == contract.workers(job) else "Pending", code
    if code is None:
        return "Pending", None
    return "Interrupted" if code == STOPPED else "Retrying", code


def running(pods: list[Object]) -> int:
    return sum(dig(pod, "status", "phase") == "Running" for pod in pods)


def resume(job: Object) -> str:
    """The command by which a suspended run goes on."""
    patch = '{"spec":{"suspend":false}}'
    return contract.command("kubectl", "patch", "job", name_of(job), "-n", _namespace(job), "-p", patch)


def _namespace(job: Object) -> str:
    return str(dig(job, "metadata", "namespace", default="default"))
