"""What a person or a spreadsheet finds in the files of a finished run."""

import csv
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from catsdogs.results import tables
from catsdogs.training.predictions import Prediction

VALIDATION_BLUE = (0x00, 0x72, 0xB2)
TRAINING_VERMILION = (0xD5, 0x5E, 0x00)
MARK_GREY = (0x8A, 0x8A, 0x8A)


def history(epochs: int) -> list[dict[str, float]]:
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


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert "Software" not in image.info
        return np.asarray(image.convert("RGB"))


def heights(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """How many pixels of the colour each column of the left panel has, axis and labels left out."""
    matching = np.all(picture[150:575, 120:740] == colour, axis=2)
    counts: np.ndarray = np.count_nonzero(matching, axis=0)
    return counts


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("epochs", "best"), [(1, 1), (2, 2), (3, 1), (30, 12), (200, 200)])
def test_picture_shows_training_and_validation_for_any_length(tmp_path: Path, epochs: int, best: int) -> None:
    tables.history_png(tmp_path / "unsuffixed", history(epochs), best, "a run")
    picture = pixels(tmp_path / "unsuffixed")
    assert picture.shape == (660, 1500, 3)
    assert heights(picture, TRAINING_VERMILION).any()
    assert heights(picture, VALIDATION_BLUE).any()


def test_same_arguments_give_same_bytes_whatever_the_users_style(tmp_path: Path) -> None:
    import matplotlib

    tables.history_png(tmp_path / "one", history(30), 12, "a run")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "savefig.dpi": 50}):
        tables.history_png(tmp_path / "two", history(30), 12, "a run")
        assert matplotlib.rcParams["font.size"] == 20
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_best_epoch_is_marked_where_it_is(tmp_path: Path) -> None:
    rows = [{**row, "val_accuracy": 0.8} for row in history(30)]  # level, so that only the marker stands out
    places = []
    for best in (5, 25):
        tables.history_png(tmp_path / "history.png", rows, best, "a run")
        picture = pixels(tmp_path / "history.png")
        line, marker = (heights(picture, colour).argmax() for colour in (MARK_GREY, VALIDATION_BLUE))
        assert heights(picture, MARK_GREY).max() > 300
        assert heights(picture, VALIDATION_BLUE).max() > 10 > np.median(heights(picture, VALIDATION_BLUE))
        assert abs(int(line) - int(marker)) <= 3
        places.append(int(line))
    dots = np.flatnonzero(heights(picture, TRAINING_VERMILION))
    assert (places[1] - places[0]) / (dots[-1] - dots[0]) == pytest.approx(20 / 29, abs=0.03)


def test_history_that_diverged_is_still_drawn(tmp_path: Path) -> None:
    rows = history(10)
    rows[4]["val_loss"] = rows[5]["loss"] = math.nan
    rows[6]["val_loss"] = math.inf
    tables.history_png(tmp_path / "history.png", rows, 5, "costs $5 and $6")
    assert pixels(tmp_path / "history.png").shape == (660, 1500, 3)


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
    given: list[Any] = [
        Prediction("test/cats/cat.1500.jpg", "cat", 1 / 3, "cat"),
        Prediction('test/dogs/a,"b"\nö.jpg', "dog", 5e-324, "cat"),
    ]
    tables.predictions_csv(tmp_path / "predictions.csv", given)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["image", "truth", "probability", "verdict"]
    assert [Prediction(a, b, float(c), d) for a, b, c, d in rows] == given


def test_time_before_the_training_is_read_from_the_log() -> None:
    lines = [
        '{"event": "started"}', '{"event": "unpacked", "seconds": 30.5}', '{"event": "split", "seconds": 12}',
        '{"event": "epoch", "seconds": 400}', '{"event": "unpacked", "sec', "", "[]", '{"event": "split"}',
        '{"event": "started"}', '{"event": "split-reused", "seconds": 0.5}',
    ]  # fmt: skip
    assert tables.earlier(lines) == {"starts": 2, "preparing": 43.0}


def test_importing_reports_loads_neither_tensorflow_nor_matplotlib() -> None:
    code = "import sys, catsdogs.results.tables, catsdogs.results.charts; print(sorted({*sys.argv} & {*sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code, "tensorflow", "keras", "matplotlib"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
