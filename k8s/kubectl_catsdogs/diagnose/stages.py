"""The stages of a run, and the diagnoses that apply at each. Pure.

DIAGNOSES is the table. `why.py` reads the objects that it needs.
"""

from collections.abc import Callable

from kubectl_catsdogs.base.chart import terminated
from kubectl_catsdogs.base.objects import condition, dig
from kubectl_catsdogs.diagnose import job_ends, pod_creation, scheduling, startup, suspension, volumes, workers
from kubectl_catsdogs.diagnose.finding import Finding
from kubectl_catsdogs.diagnose.snapshot import Snapshot

Diagnosis = Callable[[Snapshot], Finding | list[Finding] | None]

GONE, COMPLETE, FAILED, SUSPENDED = "Gone", "Complete", "Failed", "Suspended"
NO_POD, PENDING, STARTING, RUNNING, RETRYING = "No pod", "Pending", "Starting", "Running", "Retrying"

DIAGNOSES: dict[str, list[Diagnosis]] = {
    GONE: [job_ends.scheduled, job_ends.end_in_bucket_log, job_ends.removed],
    COMPLETE: [job_ends.complete],
    FAILED: [job_ends.deadline, job_ends.last_end, job_ends.failed_otherwise, job_ends.gave_up],
    SUSPENDED: [suspension.deactivated, suspension.queued, suspension.not_queued, suspension.by_hand],
    NO_POD: [pod_creation.over_quota, pod_creation.rejected],
    PENDING: [scheduling.gated, volumes.unbound, scheduling.no_node],
    STARTING: [
        startup.missing_config, startup.image_pull, startup.image_name, startup.image_absent,
        startup.container_error, startup.mount, startup.unready_node,
    ],
    RUNNING: [startup.ending, startup.unready_node, startup.sleeping],
    RETRYING: [job_ends.succeeded, pod_creation.over_quota, pod_creation.rejected, job_ends.retrying],
}  # fmt: skip
"""Stage → its diagnoses, most specific first. All that apply are shown."""

OTHERWISE: dict[str, Diagnosis] = {
    NO_POD: pod_creation.no_pod_yet,
    PENDING: scheduling.not_considered,
    STARTING: startup.starting,
    RUNNING: startup.running,
    RETRYING: pod_creation.no_pod_yet,
}
"""What is shown if none of them applies."""

LIVE = (NO_POD, PENDING, STARTING, RUNNING)


def stage_of(snapshot: Snapshot) -> str:
    if snapshot.job is None:
        return GONE
    if condition(snapshot.job, "Complete"):
        return COMPLETE
    if condition(snapshot.job, "Failed"):
        return FAILED
    pod = snapshot.pod
    phase = dig(pod, "status", "phase", default="Pending")
    pod_ended = phase in ("Failed", "Succeeded") or bool(pod and terminated(pod))
    if dig(snapshot.job, "spec", "suspend") and (pod is None or pod_ended):
        return SUSPENDED
    # A worker has no pod yet, while others have one. A run that has ended may have fewer pods than workers.
    if pod is None or (snapshot.missing_workers and phase == "Running" and not pod_ended):
        return NO_POD
    if pod_ended:
        return RETRYING
    if phase == "Running":
        return RUNNING
    return STARTING if dig(pod, "spec", "nodeName") else PENDING


def diagnose(snapshot: Snapshot) -> list[Finding]:
    """Return the findings, most specific first; none only if nothing of that name exists."""
    stage = stage_of(snapshot)
    findings = _apply(snapshot, DIAGNOSES[stage])
    if not findings and stage in OTHERWISE:
        findings = _apply(snapshot, [OTHERWISE[stage]])
    return findings + (_apply(snapshot, [workers.waiting_for_others, job_ends.earlier_end]) if stage in LIVE else [])


def _apply(snapshot: Snapshot, diagnoses: list[Diagnosis]) -> list[Finding]:
    findings: list[Finding] = []
    for diagnosis in diagnoses:
        result = diagnosis(snapshot)
        findings += result if isinstance(result, list) else [result] if result else []
    return findings
