"""What a spreadsheet finds in history.csv and predictions.csv."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

from catsdogs.config.history import HistoryRow
from catsdogs.results import tables
from catsdogs.training.predictions import Prediction


def history(epochs: int) -> list[HistoryRow]:
    return [
        {
            "epoch": epoch,
            "loss": 0.7 / (1 + epoch / 10),
            "accuracy": 1 - 0.45 / (1 + epoch / 10),
            "val_loss": 0.6 + (epoch % 7) / 100,
            "val_accuracy": 0.7 + (epoch % 5) / 100,
            "seconds": 30.1,
        }
        for epoch in range(1, epochs + 1)
    ]


def test_history_csv_gives_the_same_figures_back(tmp_path: Path) -> None:
    rows = history(3)
    rows[0]["loss"] = 0.1 + 0.2
    rows[1]["val_loss"] = np.float64(1e-17)
    tables.history_csv(tmp_path / "history.csv", rows)
    text = (tmp_path / "history.csv").read_text()
    assert text.splitlines()[0] == "epoch,loss,accuracy,val_loss,val_accuracy,seconds"
    assert [line.split(",")[0] for line in text.splitlines()[1:]] == ["1", "2", "3"]
    with (tmp_path / "history.csv").open(newline="") as file:
        assert [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)] == rows


def test_predictions_csv_gives_the_same_predictions_back(tmp_path: Path) -> None:
    given = [
        Prediction("test/cats/cat.1500.jpg", "cat", 1 / 3, "cat"),
        Prediction('test/dogs/a,"b"\nö.jpg', "dog", 5e-324, "cat"),
    ]
    tables.predictions_csv(tmp_path / "predictions.csv", given)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["image", "truth", "probability", "verdict"]
    assert [Prediction(a, b, float(c), d) for a, b, c, d in rows] == given


def test_importing_reports_loads_neither_tensorflow_nor_matplotlib() -> None:
    code = "import sys, catsdogs.results.tables, catsdogs.results.charts; print(sorted({*sys.argv} & {*sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code, "tensorflow", "keras", "matplotlib"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
