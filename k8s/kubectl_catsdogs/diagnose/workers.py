"""Which workers wait for which. Pure."""

from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.objects import dig, name_of
from kubectl_catsdogs.base.text import listed
from kubectl_catsdogs.diagnose.finding import Finding
from kubectl_catsdogs.diagnose.snapshot import Snapshot


def waiting_for_others(snapshot: Snapshot) -> Finding | None:
    """Workers start training together."""
    count = chart.workers(snapshot.job)
    newest = {chart.worker_of(pod): pod for pod in snapshot.pods}
    phases = {index: str(dig(pod, "status", "phase", default="Pending")) for index, pod in newest.items()}
    awaited = [index for index in range(count) if phases.get(index) not in ("Running", "Succeeded")]
    waiting = [index for index in sorted(phases) if phases[index] == "Running"]
    if not awaited or not waiting:
        return None
    evidence = [
        f"worker {index}: " + (f"pod {name_of(newest[index])}, {phases[index]}" if index in phases else "no pod")
        for index in awaited
    ]
    limit = chart.options(snapshot.job or {}).get("worker_timeout", "workerTimeout")
    return Finding(
        f"{_names(waiting)} {'wait' if waiting[1:] else 'waits'} for {_names(awaited)} of {count}",
        snapshot.job_place,
        evidence[:8],
        [f"look at {_names(awaited)}: workers that wait longer than workerTimeout, {limit}, fail with 69"],
    )


def _names(indexes: list[int]) -> str:
    return f"worker{'s' if len(indexes) > 1 else ''} {listed([str(index) for index in indexes])}"
