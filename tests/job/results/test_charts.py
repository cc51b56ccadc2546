"""What the drawings show, read from their elements."""

import math
import re
from itertools import pairwise

import pytest

from catsdogs.config.history import HistoryRow
from catsdogs.results import charts, metrics
from catsdogs.results.tables import Curve


def path(svg: str, kind: str) -> list[tuple[float, float]]:
    """The points of the element of that class."""
    found = re.search(rf'<path class="{kind}" d="([^"]*)"', svg)
    assert found is not None, kind
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", found[1])]


def labels(svg: str) -> list[str]:
    return [text.strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def rows(losses: list[float]) -> list[HistoryRow]:
    return [
        {
            "epoch": epoch, "loss": loss, "accuracy": 1 - loss, "val_loss": loss / 2, "val_accuracy": 1 - loss / 2,
            "seconds": 1.0,
        }
        for epoch, loss in enumerate(losses, 1)
    ]  # fmt: skip


@pytest.mark.parametrize("epochs", [1, 2, 3, 30, 500])
@pytest.mark.parametrize("quantity", ["accuracy", "loss"])
def test_history_of_any_length_stays_within_the_frame(epochs: int, quantity: Curve) -> None:
    svg = charts.history(rows([0.6 / epoch for epoch in range(1, epochs + 1)]), quantity, epochs)
    training, validation = path(svg, "training few" if epochs <= 60 else "training"), path(svg, "validation")
    assert len(training) == len(validation) == epochs
    for x, y in training + validation:
        assert charts.LEFT <= x <= charts.WIDTH - charts.RIGHT
        assert charts.TOP <= y <= charts.HEIGHT - charts.BOTTOM
    assert [x for x, _ in validation] == sorted({x for x, _ in validation})


def test_history_has_its_values_where_the_labels_say() -> None:
    svg = charts.history(rows([0.6, 0.4, 0.2]), "loss", 3)
    assert "epoch 3: 0.1000" in labels(svg)
    heights = {
        float(text): float(y) - 4 for y, text in re.findall(r'<text class="end" x="[\d.]+" y="([\d.]+)">(0\.\d)<', svg)
    }
    assert len(heights) >= 3
    for (_, y), loss in zip(path(svg, "training few"), (0.6, 0.4, 0.2), strict=True):
        assert y == pytest.approx(heights[loss], abs=0.2)
    assert path(svg, "best") == [path(svg, "validation")[2]]
    assert path(svg, "mark")[0][0] == path(svg, "best")[0][0]


def test_accuracy_of_all_has_no_room_above_it() -> None:
    svg = charts.history(rows([0.0, 0.0]), "accuracy", 1)
    assert "100 %" in labels(svg)
    assert not [text for text in labels(svg) if text in ("101 %", "102 %", "105 %", "120 %")]


def test_history_that_diverged_is_broken_where_it_did() -> None:
    given = rows([0.5, math.nan, 0.4, math.inf, 0.3])
    svg = charts.history(given, "loss", 1)
    assert len(path(svg, "training few")) == len(path(svg, "validation")) == 3
    line = re.search(r'class="validation" d="([^"]*)"', svg)
    assert line is not None
    assert "L" not in line[1], "no two of the three are neighbours"
    for best in (1, 2):
        assert "nan" not in charts.history(rows([math.nan] * 3), "loss", best).split("aria-label")[1].split(">", 1)[1]


@pytest.mark.parametrize(
    ("low", "high", "ceiling"),
    [(0.4, 0.93, 1), (0.98, 1, 1), (1, 1, 1), (0, 0, 1), (0.0, 1e-9, math.inf), (0.69, 0.70, math.inf),
     (3, 812, math.inf), (1, 1e12, math.inf), (0.5, 0.5, 1), (1, 160, math.inf)],
)  # fmt: skip
def test_ticks_enclose_and_are_round(low: float, high: float, ceiling: float) -> None:
    ticks = charts.ticks_over(low, high, 5, ceiling)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-9
    assert min(high, ceiling) - 1e-9 <= ticks[-1] <= ceiling
    steps = {round(b - a, 9) for a, b in pairwise(ticks)}
    assert len(steps) == 1
    assert f"{steps.pop():.0e}"[0] in "125"


def test_roc_is_the_curve_it_was_given() -> None:
    points = [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]
    svg = charts.roc(points)
    corners = path(svg, "validation")
    assert corners[0] == path(svg, "mark")[0]
    assert corners[-1] == path(svg, "mark")[1]
    assert corners[1][0] == corners[0][0]
    assert corners[2][0] == pytest.approx((corners[0][0] + corners[3][0]) / 2)
    assert "AUC 0.8750" in labels(svg)


def test_calibration_has_a_dot_and_an_interval_for_each_bin() -> None:
    bins = [metrics.Bin(100, 10, 0.1), metrics.Bin(4, 3, 0.75)]
    svg = charts.calibration(bins)
    (x, y), (x2, y2) = path(svg, "best")
    (left, bottom), (right, top) = path(svg, "mark")
    assert (x - left) / (right - left) == pytest.approx(0.1, abs=0.002)
    assert (bottom - y) / (bottom - top) == pytest.approx(0.1, abs=0.002)
    assert (bottom - y2) / (bottom - top) == pytest.approx(0.75, abs=0.002)
    assert x2 > x
    whiskers = re.findall(r'<path class="whisker" d="M[-\d.]+ ([-\d.]+)L[-\d.]+ ([-\d.]+)"', svg)
    lengths = [float(low) - float(high) for low, high in whiskers]
    assert lengths[1] > 3 * lengths[0] > 0
