"""`kubectl catsdogs runs`: the runs of a release, or of all, as a table or JSON."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.errors import ConfigError, NotFound, PermissionDenied
from kubectl_catsdogs.base.objects import Object, dig, name_of, oldest_first
from kubectl_catsdogs.base.text import duration, fixed_width, moment, whole_number
from kubectl_catsdogs.jobs import log_stream, releases
from kubectl_catsdogs.jobs.progress import Progress
from kubectl_catsdogs.jobs.state import LIVE, running, state_of

READERS = 8
"""Logs read at a time."""


@dataclass(frozen=True)
class Run:
    """None is unknown. In JSON under these names."""

    run: str
    job: str
    release: str
    state: str
    """Pending, Running, Interrupted or Retrying (between two pods), Suspended, Queued (by Kueue), Stopping, Succeeded,
    Failed."""
    exit_code: int | None
    """Of the last container that has ended."""
    created: str
    recipe: str | None
    set: str
    """Options in which it differs from the release's values, set by `submit`."""
    epochs_done: int | None
    epochs: int | None
    best_validation_accuracy: float | None
    test_accuracy: float | None
    gpu: str | None
    gpus: int
    """Of each worker."""
    workers: int
    workers_running: int
    result: str


def run_of(job: Object, pods: list[Object], progress: Progress) -> Run:
    """`pods` are the Job's, oldest first."""
    options = chart.options(job)
    state, code = state_of(job, pods)
    epochs = progress.epochs or whole_number(options.get("epochs") or "")
    done = progress.epochs_done or (0 if progress.recipe or state == "Pending" else None)
    gpu, gpus = gpu_of(dig(job, "spec", "template", "spec", default={}))
    return Run(
        run=chart.run_id(job),
        job=name_of(job),
        release=releases.release_of(job),
        state=state,
        exit_code=code,
        created=str(dig(job, "metadata", "creationTimestamp", default="")),
        recipe=progress.recipe or options.get("recipe"),
        set=str(dig(job, "metadata", "annotations", chart.SET, default="")),
        epochs_done=epochs if state == "Succeeded" else done,
        epochs=epochs,
        best_validation_accuracy=progress.best,
        test_accuracy=progress.test_accuracy,
        gpu=gpu,
        gpus=gpus,
        workers=chart.workers(job),
        workers_running=running(pods),
        result=chart.result(job),
    )


def gpu_of(pod_spec: Object) -> tuple[str | None, int]:
    """Return the resource name of GPUs, and their number. It is the only extended resource in the chart."""
    limits = dig(chart.container(pod_spec), "resources", "limits", default={})
    extended = {name: count for name, count in limits.items() if "/" in name}
    name = next((name for name in extended if "gpu" in name), next(iter(extended), None))
    return name, whole_number(str(extended[name])) or 0 if name else 0


def table(runs: Sequence[Run], now: datetime) -> str:
    """Return a table in kubectl's style. RELEASE, SET and WORKERS are shown if runs differ in them."""
    rows = [_cells(run, now) for run in runs]
    several = len({run.release for run in runs}) > 1
    shown = {"RELEASE": several, "SET": any(run.set for run in runs), "WORKERS": any(run.workers > 1 for run in runs)}
    names = [name for name in rows[0] if shown.get(name, True)]
    lines = [names, *([fixed_width(row[name]) or "-" for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("   ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _cells(run: Run, now: datetime) -> dict[str, str]:
    began = moment(run.created)
    code = f" ({run.exit_code})" if run.exit_code and run.state in ("Failed", "Retrying", "Interrupted") else ""
    done, epochs = ("-" if number is None else str(number) for number in (run.epochs_done, run.epochs))
    best = run.best_validation_accuracy
    return {
        "RELEASE": run.release,
        "RUN": run.run,
        "STATE": run.state + code,
        "AGE": duration((now - began).total_seconds()) if began else "",
        "RECIPE": run.recipe or "",
        "EPOCHS": "-" if (done, epochs) == ("-", "-") else f"{done}/{epochs}",
        "BEST": "" if best is None else f"{100 * best:.1f} %",
        "GPU": f"{run.gpus} × {run.gpu}" if run.gpus else "",
        "WORKERS": f"{run.workers_running}/{run.workers}" if run.state in LIVE else str(run.workers),
        "SET": run.set,
        "RESULT": run.result,
    }


class Reader:
    """Reads the logs of runs, as far as they exist and may be read."""

    def __init__(self, cluster: Cluster):
        self._cluster = cluster
        self.denied: PermissionDenied | None = None
        """Why no log could be read."""

    def progress(self, pods: list[Object]) -> Progress:
        """Return the progress by the logs of worker 0's pods. `pods` are sorted oldest first."""
        progress = Progress()
        for pod in pods:
            if chart.worker_of(pod) == 0 and log_stream.started(pod) and self.denied is None:
                self._read(pod, progress)
        return progress

    def _read(self, pod: Object, progress: Progress) -> None:
        try:
            for line, _ in self._cluster.log(name_of(pod), chart.CONTAINER, timestamps=False):
                progress.take(line)
        except PermissionDenied as denied:
            self.denied = denied
        except (NotFound, ConfigError, ConnectionResetError):
            # Gone meanwhile, or cut: what was read so far counts.
            return


def runs_of(cluster: Cluster, release: str | None) -> tuple[list[Run], PermissionDenied | None]:
    """Return the runs of a release, or of all releases for None, newest first; and why logs could not be read."""
    jobs = releases.all_jobs(cluster, release)
    if not jobs:
        return [], None
    chosen = chart.INSTANCE if release is None else f"{chart.INSTANCE}={release}"
    pods = oldest_first(cluster.list("pods", labels=f"{chosen},{chart.JOB_NAME}"))
    of_job = [[pod for pod in pods if _owner(pod) == dig(job, "metadata", "uid")] for job in jobs]
    reader = Reader(cluster)
    with ThreadPoolExecutor(READERS) as readers:
        progress = list(readers.map(reader.progress, of_job))
    return [run_of(*each) for each in zip(jobs, of_job, progress, strict=True)], reader.denied


def _owner(pod: Object) -> Any:
    return next((one.get("uid") for one in dig(pod, "metadata", "ownerReferences", default=[])), None)


def as_json(runs: Sequence[Run]) -> str:
    return json.dumps([asdict(run) for run in runs], indent=2)


def as_table(runs: Sequence[Run]) -> str:
    return table(runs, datetime.now(UTC))
