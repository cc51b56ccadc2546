"""What a person finds on report.html, as it is written and as a browser shows it."""

import base64
import io
import json
import math
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from catsdogs.data import sample
from catsdogs.results import report
from catsdogs.runtime.errors import VolumeError
from catsdogs.training.predictions import Prediction
from tests.browser import chromium
from tests.job.conftest import Trained
from tests.job.results.test_tables import history
from tests.published import rows

HOSTILE = "<script>alert('\"&')</script>"


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
    "starts": 3,
    "peak_memory_bytes": 1_834_000_000,
    "seconds": {"preparing": 61.0, "training": 933.1, "evaluation": 8.4},
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
            self.words += data.replace("\u00a0", " ")
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data.replace("\u00a0", " ")

    @property
    def pictures(self) -> list[bytes]:
        sources = [value or "" for name, value in self.attributes if name == "src"]
        assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
        return [base64.b64decode(source.partition(",")[2]) for source in sources]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty test images of each class, the first of them large, wide and with EXIF data."""
    directory = tmp_path_factory.mktemp("split")
    for label in ("cat", "dog"):
        (directory / "test" / f"{label}s").mkdir(parents=True)
        for number in range(40):
            sample.draw(label, number).save(directory / "test" / f"{label}s" / f"{label}.{number}.jpg")
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    noise = np.random.default_rng(1).integers(0, 255, (1200, 2400, 3), np.uint8)
    Image.fromarray(noise).save(directory / "test" / "cats" / "cat.0.jpg", exif=exif)
    return directory


def predictions(count: int = 40) -> list[Prediction]:
    """Of each class; every second one is wrong, the surer the higher its number."""
    given = []
    for label, sign in (("cat", 1), ("dog", -1)):
        for number in range(count):
            wrong = number % 2
            probability = 0.5 + sign * (1 if wrong else -1) * (number + 1) / 100
            given.append(
                Prediction(
                    f"test/{label}s/{label}.{number}.jpg", label, probability, "dog" if probability > 0.5 else "cat"
                )
            )
    return given


def written_page(folder: Path, directory: Path, **changes: Any) -> str:
    given: dict[str, Any] = {
        "run": RUN, "metrics": METRICS, "history": history(30), "excluded": [], "predictions": predictions(),
        "directory": directory,
    }  # fmt: skip
    report.report_html(folder / "report.html", **{**given, **changes})
    return (folder / "report.html").read_text(encoding="utf-8")


def test_page_says_what_the_run_came_to(tmp_path: Path, directory: Path) -> None:
    left_out = [
        {"member": "train/cat.5.jpg", "reason": "empty", "replaced_by": "train/cat.2000.jpg"},
        {"member": "train/dog.7.jpg", "reason": "cut off"},
    ]
    found = Page(written_page(tmp_path, directory, excluded=left_out))
    for said in (
        "baseline-1a2b3c4d", "72.7 %", "1,000 test images", "727", "69.9 % to 75.4 %", "epoch 12 of 30",
        "727 of 1,000", "AUC 0.", "the expected calibration error is ", " points.",
    ):  # fmt: skip
        assert said in " ".join(found.words.split())
    for row in (
        ["", "predicted cat", "predicted dog"],
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
        ["starts", "3"],
        ["preparing", "1:01 min"],
        ["training", "15:33 min"],
        ["evaluation", "8.4 s"],
        ["peak memory", "1.83 GB"],
        ["directory_sha256", "5a5a"],
        ["30", "0.1750", "0.8875", "0.6200", "0.7000", "30.1"],
    ):
        assert row in found.rows


def test_worst_mistakes_are_shown_with_truth_and_probability(tmp_path: Path, directory: Path) -> None:
    found = Page(written_page(tmp_path, directory))
    captions = re.findall(r"(cat|dog), predicted (cat|dog): ([\d.]+) %((?:cat|dog)\.\d+\.jpg)", found.words)
    assert len(captions) == report.MAX_MISTAKES
    assert captions[:4] == [
        ("cat", "dog", "90.0", "cat.39.jpg"), ("dog", "cat", "90.0", "dog.39.jpg"),
        ("cat", "dog", "88.0", "cat.37.jpg"), ("dog", "cat", "88.0", "dog.37.jpg"),
    ]  # fmt: skip
    assert len(found.pictures) == report.MAX_MISTAKES
    for caption, picture in zip(captions, found.pictures, strict=True):
        with (
            Image.open(io.BytesIO(picture)) as thumbnail,
            Image.open(directory / "test" / f"{caption[0]}s" / caption[3]) as image,
        ):
            expected = np.asarray(image.resize(thumbnail.size), float)
            assert np.abs(np.asarray(thumbnail, float) - expected).mean() < 12
    assert f"{report.MAX_MISTAKES} of 273, the most confident first." in found.words


def test_thumbnails_are_small_and_tell_nothing_else(directory: Path) -> None:
    data = report.thumbnail(directory / "test" / "cats" / "cat.0.jpg")
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (160, 80)
        assert not image.getexif()
    assert len(data) < 20_000, "even of noise"
    assert b"secret" not in data


def test_image_that_was_damaged_meanwhile(tmp_path: Path, directory: Path) -> None:
    shutil.copytree(directory, tmp_path / "split")
    (tmp_path / "split" / "test" / "cats" / "cat.39.jpg").write_bytes(b"")
    with pytest.raises(VolumeError, match=r"cat\.39\.jpg: damaged since it was checked \(empty file\)"):
        written_page(tmp_path, tmp_path / "split")


def test_page_of_a_model_without_mistakes_and_a_run_without_losses(tmp_path: Path, directory: Path) -> None:
    metrics = {key: value for key, value in METRICS.items() if key != "peak_memory_bytes"}
    right = [one for one in predictions() if one.label == one.predicted]
    found = Page(written_page(tmp_path, directory, metrics=metrics, predictions=right))
    assert found.words.count("None.") == 2
    assert "peak memory" not in found.words
    assert found.pictures == []


def test_page_of_a_model_that_diverged(tmp_path: Path, directory: Path) -> None:
    lost = [one._replace(probability=math.nan, predicted="cat") for one in predictions()]
    found = Page(written_page(tmp_path, directory, predictions=lost))
    assert found.words.count("The model predicted no finite probabilities") == 2
    assert found.pictures == []


def test_page_stays_small_whatever_was_left_out(tmp_path: Path, directory: Path) -> None:
    left_out = [{"member": f"PetImages/Cat/{number}.jpg", "reason": "empty file"} for number in range(1700)]
    text = written_page(tmp_path, directory, excluded=left_out)
    assert "And 1,600 more, in split.json." in Page(text).words
    assert "PetImages/Cat/99.jpg" in text
    assert "PetImages/Cat/100.jpg" not in text
    assert len(text) < 400_000


def test_page_needs_nothing_from_outside(tmp_path: Path, directory: Path) -> None:
    text = written_page(tmp_path, directory)
    for forbidden in ("http://", "https://", "<script", "url(", "@import", "{{", "{%", "$"):
        assert forbidden not in text
    assert not Page(text).tags & {"script", "link", "iframe", "object", "base"}


def test_hostile_values_are_shown_and_nothing_more(tmp_path: Path, directory: Path) -> None:
    parts = {name: {HOSTILE: HOSTILE} for name in ("settings", "versions", "device", "archive")}
    left_out = {"member": "a", "reason": "b", "replaced_by": "c"}
    tame = Page(written_page(tmp_path, directory, excluded=[left_out]))
    hostile = tmp_path / "hostile"
    name = 'x"><img src=x onerror=alert(1)>.jpg'
    (hostile / "test").mkdir(parents=True)
    sample.draw("cat", 1).save(hostile / "test" / "x", "PNG")
    (hostile / "test" / "x").rename(hostile / "test" / name)
    text = written_page(
        tmp_path,
        hostile,
        run={"run_id": HOSTILE, **parts},
        metrics={**METRICS, "test": {**METRICS["test"], "confusion": {HOSTILE: {HOSTILE: 5}}}},
        excluded=[dict.fromkeys(left_out, HOSTILE)],
        predictions=[Prediction(f"test/{name}", HOSTILE, 0.9, "dog"), *predictions(1)[:0]],
    )
    found = Page(text)
    assert "<script" not in text
    assert found.tags <= tame.tags
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert len(found.pictures) == 1
    assert found.rows.count([HOSTILE, HOSTILE]) == 4
    assert [HOSTILE, HOSTILE, HOSTILE] in found.rows
    assert f"run {HOSTILE}" in found.words
    assert name in found.words


def test_unprintable_characters_are_shown_escaped(tmp_path: Path, directory: Path) -> None:
    """They would turn the text around, or drive the terminal of who prints the page."""
    unprintable = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2066, 0x200F, 0xFEFF, 0xD800, 0xDC80)))
    name = f"a{unprintable}z"
    parts = {part: {name: name} for part in ("settings", "versions", "archive")}
    text = written_page(
        tmp_path, directory, run={"run_id": name, "device": RUN["device"], **parts},
        excluded=[dict.fromkeys(("member", "reason", "replaced_by"), name)],
    )  # fmt: skip
    assert {char for char in text if not char.isprintable()} <= {"\n", "\u00a0"}
    escaped = Page(text)
    shown = "".join(repr(char)[1:-1] for char in unprintable)
    assert escaped.rows.count([f"a{shown}z"] * 2) == 3
    assert [f"a{shown}z"] * 3 in escaped.rows
    assert f"run a{shown}z" in escaped.words


def test_published_page_shows_the_run_s_own_mistakes(trained: Trained) -> None:
    found = Page((trained.folder / "report.html").read_text(encoding="utf-8"))
    test = json.loads((trained.folder / "metrics.json").read_bytes())["test"]
    wrong = [row for row in rows((trained.folder / "predictions.csv").read_bytes()) if row["truth"] != row["verdict"]]
    assert f"{test['correct']} of 12 test images, none of them used in training, are classified correctly." in " ".join(
        found.words.split()
    )
    assert len(found.pictures) == len(wrong)
    for row in wrong:
        assert f"{row['truth']}, predicted {row['verdict']}: " in found.words
        assert Path(row["image"]).name in found.words
    assert ["starts", "1"] in found.rows
    assert [row[0] for row in found.rows if row[0] in ("preparing", "evaluation")] == ["preparing", "evaluation"]


def test_page_in_a_browser(tmp_path: Path, directory: Path) -> None:
    """At the widths of a phone, a tablet and a screen nothing stands out of it, and the browser has no complaint."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        if os.environ.get("CATSDOGS_TEST_ENGINE") == "required":
            pytest.fail("no browser; install Debian's package chromium")
        pytest.skip("no chromium on this machine")
    left_out = [
        {"member": "train/cat.5.jpg", "reason": "image file is truncated " * 3, "replaced_by": "train/cat.2000.jpg"}
    ]
    text = written_page(tmp_path, directory, excluded=left_out, run={**RUN, "run_id": "a" * 100})
    assert len(text) > 1000
    with chromium(executable, tmp_path / "profile") as browser:
        inks = set()
        for width in (320, 768, 1440):
            for dark in (False, True):
                browser.show(tmp_path / "report.html", width, dark=dark)
                assert browser.value("document.documentElement.scrollWidth") <= width
                assert browser.value("innerWidth") == width
                parts = "[...document.querySelectorAll('h1, h2, p, svg, figure, .wide')]"
                beyond = f"{parts}.filter(part => part.getBoundingClientRect().right > innerWidth).length"
                assert browser.value(beyond) == 0
                assert browser.value("[...document.images].every(image => image.complete && image.naturalWidth)")
                inks.add(browser.value("getComputedStyle(document.body).color"))
        assert len(inks) == 2, "dark text on light paper, and light on dark"
        assert browser.value("document.querySelectorAll('svg').length") == 4
        assert browser.pdf().startswith(b"%PDF")
        assert browser.complaints == []
