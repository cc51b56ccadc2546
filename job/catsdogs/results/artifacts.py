"""A finished training's artifacts on the volume, beside its model."""

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from catsdogs.config.history import History, HistoryRow
from catsdogs.config.settings import Settings
from catsdogs.data import split
from catsdogs.data.split import Split
from catsdogs.results import documents, names, plot, report, tables
from catsdogs.results.documents import Metrics, RunDocument, SplitMetrics
from catsdogs.results.job_log import Before
from catsdogs.results.tensorboard import EventFiles
from catsdogs.runtime.formatting import count_text
from catsdogs.storage import volume
from catsdogs.training.predictions import Prediction, PredictionMetrics


def metrics_of(
    history: History, best: HistoryRow, train: SplitMetrics, test: PredictionMetrics, before: Before, evaluation: float
) -> Metrics:
    """Return metrics.json for the model of the `best` epoch; `evaluation` took so many seconds."""
    return {
        "best_epoch": best["epoch"],
        "epochs": len(history),
        "train": train,
        "validation": {"loss": best["val_loss"], "accuracy": best["val_accuracy"]},
        "test": test,
        "starts": before["starts"],
        "seconds": {
            "preparing": before["preparing"],
            "training": sum(row["seconds"] for row in history),
            "evaluation": evaluation,
        },
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


@dataclass(frozen=True)
class Finished:
    """What the artifacts of a finished training are made from."""

    settings: Settings
    run: RunDocument
    metrics: Metrics
    history: History
    split: Split
    predictions: Sequence[Prediction]
    """Of the test images."""


def _history_png(path: Path, finished: Finished) -> None:
    settings = finished.settings
    title = f"{settings.recipe_name}, {count_text(settings.epochs, 'epoch')}"
    plot.history_png(path, finished.history, finished.metrics["best_epoch"], title)


def _report_html(path: Path, finished: Finished) -> None:
    report.report_html(
        path,
        run=finished.run,
        metrics=finished.metrics,
        history=finished.history,
        excluded=finished.split.excluded,
        predictions=finished.predictions,
        directory=finished.split.directory,
    )


WRITERS: dict[str, Callable[[Path, Finished], object]] = {
    names.HISTORY_PNG: _history_png,
    names.HISTORY_CSV: lambda path, finished: tables.history_csv(path, finished.history),
    names.METRICS: lambda path, finished: path.write_bytes(documents.dump_metrics(finished.metrics)),
    names.PREDICTIONS: lambda path, finished: tables.predictions_csv(path, finished.predictions),
    names.REPORT: _report_html,
    names.SPLIT: lambda path, finished: path.write_bytes(volume.contents(finished.split.directory / split.MARKER)),
    names.RUN: lambda path, finished: path.write_bytes(documents.dump_run(finished.run)),
}
"""Artifact → what writes it to a path. TensorBoard's event files are written together, the model by the learner."""


def write_artifacts(directory: Path, finished: Finished) -> None:
    """Write all of `names.TRAINED` except the model. Raises OSError, and VolumeError for an image that was damaged."""
    EventFiles(directory).write(finished.history)
    for name, write in WRITERS.items():
        write(directory / name, finished)
