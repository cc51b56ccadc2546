"""A finished training's tables, pictures and pages on the volume, beside its model."""

import resource
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from catsdogs.config.settings import Settings
from catsdogs.data import split
from catsdogs.data.split import Split
from catsdogs.results import publish, report, tables
from catsdogs.results.tensorboard import EventFiles
from catsdogs.training.checkpoints import Progress
from catsdogs.training.predictions import Prediction


def metrics_of(
    progress: Progress, test: Mapping[str, Any], earlier: Mapping[str, float], evaluation_seconds: float
) -> dict[str, Any]:
    """metrics.json. `test` is what `predictions.prediction_metrics` gives, `earlier` what `report.earlier` does."""
    best, history = progress.best, progress.history
    assert best is not None
    return {
        "best_epoch": best["epoch"],
        "epochs": len(history),
        "train": {"loss": best["loss"], "accuracy": best["accuracy"]},
        "validation": {"loss": best["val_loss"], "accuracy": best["val_accuracy"]},
        "test": test,
        "starts": earlier["starts"],
        "seconds": {
            "preparing": earlier["preparing"],
            "training": sum(row["seconds"] for row in history),
            "evaluation": evaluation_seconds,
        },
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def write_artifacts(
    directory: Path, settings: Settings, about: Mapping[str, Any], metrics: Mapping[str, Any], progress: Progress,
    prepared: Split, predictions: Sequence[Prediction],
) -> None:  # fmt: skip
    """Writes all of `publish.MADE_BY_TRAINING` but the model. `about` becomes run.json. Raises OSError."""
    history, best = progress.history, progress.best
    assert best is not None
    title = f"{settings.recipe_name}, {settings.epochs} epochs"
    tables.history_png(directory / "history.png", history, int(best["epoch"]), title)
    tables.history_csv(directory / "history.csv", history)
    EventFiles(directory).write(history)
    tables.predictions_csv(directory / "predictions.csv", predictions)
    report.report_html(
        directory / "report.html",
        run=about,
        metrics=metrics,
        history=history,
        quarantined=prepared.excluded,
        predictions=predictions,
        directory=prepared.directory,
    )
    (directory / "metrics.json").write_bytes(publish.as_json(metrics))
    (directory / publish.RUN).write_bytes(publish.as_json(about))
    shutil.copyfile(prepared.directory / split.MARKER, directory / "split.json")
