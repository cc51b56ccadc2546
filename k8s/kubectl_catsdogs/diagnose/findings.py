"""Why a run is as it is: from the objects read to findings. Pure.

DIAGNOSES is the table: for each stage of a run what may be the matter with it. `why.py` reads the objects.
"""

from collections.abc import Callable

from kubectl_catsdogs.base.contract import condition, dig, terminated
from kubectl_catsdogs.diagnose import job_ends as ended
from kubectl_catsdogs.diagnose import startup as starting
from kubectl_catsdogs.diagnose import volumes, waiting
from kubectl_catsdogs.diagnose.snapshot import Finding, Seen

Diagnosis = Callable[[Seen], Finding | list[Finding] | None]

GONE, COMPLETE, FAILED, SUSPENDED = "Gone", "Complete", "Failed", "Suspended"
NO_POD, PENDING, STARTING, RUNNING, RETRYING = "No pod", "Pending", "Starting", "Running", "Retrying"

DIAGNOSES: dict[str, list[Diagnosis]] = {
    GONE: [ended.scheduled, ended.told_by_log, ended.removed],
    COMPLETE: [ended.complete],
    FAILED: [ended.deadline, ended.last_end, ended.failed_otherwise, ended.gave_up],
    SUSPENDED: [waiting.deactivated, waiting.queued, waiting.not_queued, waiting.by_hand],
    NO_POD: [waiting.over_quota, waiting.refused],
    PENDING: [waiting.gated, volumes.unbound, waiting.told_by_scheduler],
    STARTING: [
        starting.missing_config, starting.image_pull, starting.image_name, starting.image_absent,
        starting.container_error, starting.mount, starting.unready_node,
    ],
    RUNNING: [starting.ending, starting.unready_node, starting.sleeping],
    RETRYING: [ended.succeeded, waiting.over_quota, waiting.refused, ended.tries_again],
}  # fmt: skip
"""Stage → its diagnoses, the most specific first. All that hold are told."""

OTHERWISE: dict[str, Diagnosis] = {
    NO_POD: waiting.no_pod_yet,
    PENDING: waiting.not_looked_at,
    STARTING: starting.starting,
    RUNNING: starting.running,
    RETRYING: waiting.no_pod_yet,
}
"""What is told where none of these holds."""

LIVE = (NO_POD, PENDING, STARTING, RUNNING)


def stage_of(seen: Seen) -> str:
    if seen.job is None:
        return GONE
    if condition(seen.job, "Complete"):
        return COMPLETE
    if condition(seen.job, "Failed"):
        return FAILED
    phase = dig(seen.pod, "status", "phase", default="Pending")
    ended_pod = phase in ("Failed", "Succeeded") or bool(seen.pod and terminated(seen.pod))
    if dig(seen.job, "spec", "suspend") and (seen.pod is None or ended_pod):
        return SUSPENDED
    # A worker that has no pod yet, while others have one; those of a run that is over have gone or will.
    if seen.pod is None or (seen.missing and phase == "Running" and not ended_pod):
        return NO_POD
    if ended_pod:
        return RETRYING
    if phase == "Running":
        return RUNNING
    return STARTING if dig(seen.pod, "spec", "nodeName") else PENDING


def diagnose(seen: Seen) -> list[Finding]:
    """The most specific first; none only where there is nothing of that name."""
    stage = stage_of(seen)
    found = _told(seen, DIAGNOSES[stage])
    if not found and stage in OTHERWISE:
        found = _told(seen, [OTHERWISE[stage]])
    return found + (_told(seen, [waiting.for_others, ended.earlier_end]) if stage in LIVE else [])


def _told(seen: Seen, diagnoses: list[Diagnosis]) -> list[Finding]:
    found: list[Finding] = []
    for diagnosis in diagnoses:
        one = diagnosis(seen)
        found += one if isinstance(one, list) else [one] if one else []
    return found
