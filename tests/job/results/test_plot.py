"""What a person sees on history.png."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catsdogs.results import plot
from tests.job.results.test_tables import history

VALIDATION_BLUE = (0x00, 0x72, 0xB2)
TRAINING_VERMILION = (0xD5, 0x5E, 0x00)
MARK_GREY = (0x8A, 0x8A, 0x8A)


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
    plot.history_png(tmp_path / "unsuffixed", history(epochs), best, "a run")
    picture = pixels(tmp_path / "unsuffixed")
    assert picture.shape == (660, 1500, 3)
    assert heights(picture, TRAINING_VERMILION).any()
    assert heights(picture, VALIDATION_BLUE).any()


def test_same_arguments_give_same_bytes_whatever_the_users_style(tmp_path: Path) -> None:
    import matplotlib

    plot.history_png(tmp_path / "one", history(30), 12, "a run")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "savefig.dpi": 50}):
        plot.history_png(tmp_path / "two", history(30), 12, "a run")
        assert matplotlib.rcParams["font.size"] == 20
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_best_epoch_is_marked_where_it_is(tmp_path: Path) -> None:
    rows = history(30)  # level, so that only the marker stands out
    places = []
    for best in (5, 25):
        plot.history_png(tmp_path / "history.png", rows, best, "a run")
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
    plot.history_png(tmp_path / "history.png", rows, 5, "costs $5 and $6")
    assert pixels(tmp_path / "history.png").shape == (660, 1500, 3)
