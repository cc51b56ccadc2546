"""history.csv and predictions.csv: for spreadsheets."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from catsdogs.config.history import HistoryRow
from catsdogs.training.predictions import Prediction

Quantity = Literal["loss", "accuracy", "val_loss", "val_accuracy"]
QUANTITIES: tuple[Quantity, ...] = ("loss", "accuracy", "val_loss", "val_accuracy")
"""Of each epoch: the training's running means, and the model's on the validation images at the end of the epoch."""
HISTORY_COLUMNS = ("epoch", *QUANTITIES, "seconds")
PREDICTIONS_COLUMNS = ("image", "truth", "probability", "verdict")
Curve = Literal["loss", "accuracy"]


def curves(history: Sequence[HistoryRow], curve: Curve) -> tuple[list[float], list[float]]:
    """Return a quantity's values over the epochs: those of training, and those of validation."""
    validation: Quantity = "val_accuracy" if curve == "accuracy" else "val_loss"
    return [row[curve] for row in history], [row[validation] for row in history]


def history_csv(path: Path, history: Iterable[HistoryRow]) -> None:
    """Write a line per epoch under HISTORY_COLUMNS. A number reads back as the same float. Raises OSError."""
    rows = (
        [int(row["epoch"]), *(repr(float(row[name])) for name in QUANTITIES), repr(float(row["seconds"]))]
        for row in history
    )
    _write_csv(path, HISTORY_COLUMNS, rows)


def predictions_csv(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write a line per image, in the order given; `probability` is that of a dog. Raises OSError."""
    rows = (
        [prediction.image, prediction.label, repr(float(prediction.probability)), prediction.predicted]
        for prediction in predictions
    )
    _write_csv(path, PREDICTIONS_COLUMNS, rows)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])
