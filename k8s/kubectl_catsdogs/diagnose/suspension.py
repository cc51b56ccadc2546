"""Why a Job is suspended: by Kueue, or by somebody. Pure."""

from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.objects import dig, name_of
from kubectl_catsdogs.diagnose.finding import Finding
from kubectl_catsdogs.diagnose.snapshot import Snapshot


def deactivated(snapshot: Snapshot) -> Finding | None:
    if dig(snapshot.workload, "spec", "active") is not False:
        return None
    name = name_of(snapshot.workload or {})
    patch = """--type=merge -p '{"spec":{"active":true}}'"""
    return Finding(
        "its Kueue Workload is deactivated: by hand, or because it was evicted or not ready too often",
        f"Workload {name}",
        _kueue_says(snapshot),
        [f"kubectl patch workload -n {snapshot.namespace} {name} {patch} puts it back into the queue"],
    )


def queued(snapshot: Snapshot) -> Finding | None:
    queue = dig(snapshot.job, "metadata", "labels", chart.QUEUE)
    if queue is None or snapshot.workload is None or dig(snapshot.workload, "spec", "active") is False:
        return None
    name = name_of(snapshot.workload)
    return Finding(
        f"it waits until Kueue admits it to the queue {queue}",
        f"Workload {name}",
        _kueue_says(snapshot),
        [
            "wait: it starts by itself once there is quota",
            f"or correct what Kueue reports: kubectl describe workload -n {snapshot.namespace} {name}",
        ],
    )


def not_queued(snapshot: Snapshot) -> Finding | None:
    queue = dig(snapshot.job, "metadata", "labels", chart.QUEUE)
    if queue is None or snapshot.workload is not None:
        return None
    return Finding(
        f"it is for Kueue's queue {queue}, and Kueue has created no Workload for it, or it cannot be read",
        snapshot.job_place,
        [],
        [
            f"kubectl get localqueue,workload -n {snapshot.namespace} shows whether Kueue and the queue exist",
            "or run without Kueue: --set kueue.queueName=",
        ],
    )


def _kueue_says(snapshot: Snapshot) -> list[str]:
    lines = []
    for entry in dig(snapshot.workload, "status", "conditions", default=[]):
        kind, status = entry.get("type"), entry.get("status")
        missing = status == "False" and kind in ("QuotaReserved", "Admitted", "PodsReady")
        if missing or (status == "True" and kind in ("Evicted", "Preempted", "DeactivationTarget")):
            lines.append(f"Kueue: {kind} is {status}, {entry.get('reason')}: {entry.get('message')}")
    for check in dig(snapshot.workload, "status", "admissionChecks", default=[]):
        if check.get("state") != "Ready":
            lines.append(f"Kueue: admission check {check.get('name')} is {check.get('state')}: {check.get('message')}")
    return lines


def by_hand(snapshot: Snapshot) -> Finding | None:
    if dig(snapshot.job, "metadata", "labels", chart.QUEUE) is not None:
        return None
    name = name_of(snapshot.job or {})
    patch = """--type=merge -p '{"spec":{"suspend":false}}'"""
    return Finding(
        "the Job is suspended: by the value job.suspend, by `kubectl catsdogs stop` or by hand",
        snapshot.job_place,
        [],
        [f"kubectl patch job -n {snapshot.namespace} {name} {patch} resumes it from its last checkpoint"],
    )
