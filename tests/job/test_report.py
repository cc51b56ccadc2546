"""What a person or a spreadsheet finds in the files of a finished run."""

import base64
import csv
import math
import subprocess
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from job import report

VALIDATION_BLUE = (0x00, 0x72, 0xB2)
TRAINING_VERMILION = (0xD5, 0x5E, 0x00)
MARK_GREY = (0x8A, 0x8A, 0x8A)
HOSTILE = "<script>alert('\"&')</script>"


class Prediction(NamedTuple):
    image: str
    truth: str
    probability: float
    verdict: str


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


RUN: dict[str, Any] = {
    "run_id": "baseline-1a2b3c4d",
    "settings": {"recipe": "baseline", "learning_rate": 0.0001, "checkpoint_to": None},
    "versions": {"python": "3.11.9", "tensorflow": "2.21.0"},
    "device": {"name": "CPU", "dtype": "float32", "replicas": 1},
    "archive": {"uri": "s3://pets/dogs-vs-cats.zip", "size": 852, "etag": "e7a6", "directory_sha256": "5a5a"},
}
METRICS: dict[str, Any] = {
    "best_epoch": 12,
    "epochs": 30,
    "train": {"loss": 0.4512, "accuracy": 0.813},
    "validation": {"loss": 0.5623, "accuracy": 0.734},
    "test": {
        "loss": 0.5734,
        "accuracy": 0.727,
        "images": 1000,
        "correct": 727,
        "confusion": {"cat": {"cat": 380, "dog": 120}, "dog": {"cat": 153, "dog": 347}},
    },
    "peak_memory_bytes": 1_834_000_000,
    "seconds": {"training": 933.1, "evaluation": 8.4},
}


class Page(HTMLParser):
    """The page as a reader sees it: its words, its tables by cell; unbalanced tags raise."""

    VOID = ("meta", "img", "br", "link", "hr")

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def written_page(folder: Path, **changes: Any) -> str:
    given: Mapping[str, Any] = {
        "run": RUN,
        "metrics": METRICS,
        "history": history(30),
        "quarantined": [],
        "history_image": b"\x89PNG",
    }
    report.report_html(folder / "report.html", **{**given, **changes})
    return (folder / "report.html").read_text(encoding="utf-8")


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
    report.history_png(tmp_path / "unsuffixed", history(epochs), best, "a run")
    picture = pixels(tmp_path / "unsuffixed")
    assert picture.shape == (660, 1500, 3)
    assert heights(picture, TRAINING_VERMILION).any()
    assert heights(picture, VALIDATION_BLUE).any()


def test_same_arguments_give_same_bytes_whatever_the_users_style(tmp_path: Path) -> None:
    import matplotlib

    report.history_png(tmp_path / "one", history(30), 12, "a run")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "savefig.dpi": 50}):
        report.history_png(tmp_path / "two", history(30), 12, "a run")
        assert matplotlib.rcParams["font.size"] == 20
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_best_epoch_is_marked_where_it_is(tmp_path: Path) -> None:
    rows = [{**row, "val_accuracy": 0.8} for row in history(30)]  # level, so that only the marker stands out
    places = []
    for best in (5, 25):
        report.history_png(tmp_path / "history.png", rows, best, "a run")
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
    report.history_png(tmp_path / "history.png", rows, 5, "costs $5 and $6")
    assert pixels(tmp_path / "history.png").shape == (660, 1500, 3)


def test_history_csv_gives_the_same_figures_back(tmp_path: Path) -> None:
    rows = history(3)
    rows[0]["loss"] = 0.1 + 0.2
    rows[1]["val_loss"] = np.float64(1e-17)
    report.history_csv(tmp_path / "history.csv", rows)
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
    report.predictions_csv(tmp_path / "predictions.csv", given)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["image", "truth", "probability", "verdict"]
    assert [Prediction(a, b, float(c), d) for a, b, c, d in rows] == given


@pytest.mark.parametrize(("correct", "images"), [(727, 1000), (0, 10), (10, 10), (1, 1), (500, 1000)])
def test_interval_ends_are_the_shares_that_the_test_just_rejects(correct: int, images: int) -> None:
    low, high = report.wilson_interval(correct, images)
    assert 0 <= low <= correct / images <= high + 1e-12 <= 1 + 1e-12
    for share in (low, high):
        if 1e-9 < share < 1 - 1e-9:  # Wilson's definition: the observed share lies 1.96 standard errors of `share` away
            distance = abs(correct / images - share) / math.sqrt(share * (1 - share) / images)
            assert distance == pytest.approx(1.959964, rel=1e-5)


def test_interval_of_known_value() -> None:
    assert report.wilson_interval(727, 1000) == pytest.approx((0.69856, 0.75370), abs=5e-6)
    assert report.wilson_interval(0, 0) == (0, 1)


def test_page_says_what_the_run_came_to(tmp_path: Path) -> None:
    picture = b"\x89PNG\r\n\x1a\n not really"
    left_out = [
        {"member": "train/cat.5.jpg", "reason": "empty", "replaced_by": "train/cat.2000.jpg"},
        {"member": "train/dog.7.jpg", "reason": "cut off"},
    ]
    page = Page(written_page(tmp_path, quarantined=left_out, history_image=picture))
    for said in (
        "baseline-1a2b3c4d",
        "72.7 %",
        "1,000 test images",
        "727",
        "69.9 % to 75.4 %",
        "epoch 12 of 30",
    ):
        assert said in page.words
    for row in (
        ["", "called cat", "called dog"],
        ["cat", "380 (76.0 %)", "120 (24.0 %)"],
        ["dog", "153 (30.6 %)", "347 (69.4 %)"],
        ["train", "81.3 %", "0.4512"],
        ["validation", "73.4 %", "0.5623"],
        ["test", "72.7 %", "0.5734"],
        ["train/cat.5.jpg", "empty", "train/cat.2000.jpg"],
        ["train/dog.7.jpg", "cut off", "–"],
        ["learning_rate", "0.0001"],
        ["checkpoint_to", "–"],
        ["tensorflow", "2.21.0"],
        ["dtype", "float32"],
        ["training", "15:33 min"],
        ["peak memory", "1.83 GB"],
        ["directory_sha256", "5a5a"],
        ["30", "0.1750", "0.8875", "0.6200", "0.7000", "30.1"],
    ):
        assert row in page.rows
    sources = [value for name, value in page.attributes if name == "src"]
    assert sources == [f"data:image/png;base64,{base64.b64encode(picture).decode()}"]


def test_page_without_quarantine_and_memory(tmp_path: Path) -> None:
    metrics = {key: value for key, value in METRICS.items() if key != "peak_memory_bytes"}
    page = Page(written_page(tmp_path, metrics=metrics))
    assert "None." in page.words
    assert "peak memory" not in page.words


def test_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    text = written_page(tmp_path)
    for forbidden in ("http://", "https://", "<script", "url(", "@import", "$"):
        assert forbidden not in text
    assert not Page(text).tags & {"script", "link", "iframe", "object", "base"}


def test_hostile_values_are_shown_and_nothing_more(tmp_path: Path) -> None:
    parts = {name: {HOSTILE: HOSTILE} for name in ("settings", "versions", "device", "archive")}
    tame = Page(written_page(tmp_path))
    text = written_page(
        tmp_path,
        run={"run_id": HOSTILE, **parts},
        metrics={**METRICS, "test": {**METRICS["test"], "confusion": {HOSTILE: {HOSTILE: 5}}}},
        quarantined=[{"member": HOSTILE, "reason": HOSTILE, "replaced_by": HOSTILE}],
    )
    page = Page(text)
    assert "<script" not in text
    assert page.tags == tame.tags
    assert page.rows.count([HOSTILE, HOSTILE]) == 4
    assert [HOSTILE, HOSTILE, HOSTILE] in page.rows
    assert f"run {HOSTILE}" in page.words


def test_importing_reports_loads_neither_tensorflow_nor_matplotlib() -> None:
    code = "import sys, job.report; print(sorted({'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
