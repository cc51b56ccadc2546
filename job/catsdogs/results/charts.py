"""Charts as inline SVG. Their colours are the page's CSS variables, so that they follow light and dark."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil, floor, inf, isfinite, log10
from typing import NamedTuple

from markupsafe import Markup

from catsdogs.config.history import HistoryRow
from catsdogs.results.metrics import Bin, area, wilson_interval
from catsdogs.results.tables import Curve, curves
from catsdogs.runtime.formatting import percent

Point = tuple[float, float]

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 20, 30, 40
"""Margins for the labels, in units of the viewBox; one is about a pixel on a phone."""
SHARES = [0.0, 0.25, 0.5, 0.75, 1.0]


class _Plot(NamedTuple):
    """The ranges of both axes, and elements that are placed by them."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, point: Point) -> str:
        """Return a point's coordinates in the SVG, as `x y`."""
        (x, y), (x1, x2), (y1, y2) = point, self.x, self.y
        across = LEFT + (WIDTH - LEFT - RIGHT) * (x - x1) / (x2 - x1)
        down = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - y1) / (y2 - y1)
        return f"{across:.1f} {down:.1f}"

    def line(self, points: Iterable[Point], kind: str) -> Markup:
        """Draw a line, broken where a value is not finite."""
        path, pen = [], "M"
        for point in points:
            if all(map(isfinite, point)):
                path.append(pen + self.at(point))
                pen = "L"
            else:
                pen = "M"
        return Markup('<path class="{}" d="{}"/>').format(kind, "".join(path))

    def dots(self, points: Iterable[Point], kind: str) -> Markup:
        """Draw dots: lines of length 0, whose ends are round, in one element."""
        path = "".join(f"M{self.at(point)}h0" for point in points if all(map(isfinite, point)))
        return Markup('<path class="{}" d="{}"/>').format(kind, path)

    def text(self, point: Point, text: str, kind: str, left: float = 0, up: float = 0) -> Markup:
        x, y = map(float, self.at(point).split())
        return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(kind, x - left, y - up, text)


def history(rows: Sequence[HistoryRow], curve: Curve, best_epoch: int) -> Markup:
    """Draw accuracy or loss over the epochs: training as dots, validation as a line, the best epoch marked.

    Values that are not finite are left out.
    """
    text_of: Callable[[float], str] = percent if curve == "accuracy" else "{:.4f}".format
    epochs = [row["epoch"] for row in rows]
    training, validation = (list(zip(epochs, values, strict=True)) for values in curves(rows, curve))
    values = [value for _, value in training + validation if isfinite(value)] or [0.0]
    ticks = ticks_over(min(values), max(values), most=5, ceiling=1 if curve == "accuracy" else inf)
    first, last = epochs[0], epochs[-1]
    margin = max(0.5, len(rows) / 50)
    plot = _Plot((first - margin, last + margin), (ticks[0], ticks[-1]))
    whole = [tick for tick in ticks_over(first, last, most=6) if tick == int(tick) and first <= tick <= last]
    parts = [
        _axes(plot, {tick: f"{tick:.0f}" for tick in whole}, _tick_texts(ticks, curve), "epoch", ""),
        plot.line([(best_epoch, ticks[0]), (best_epoch, ticks[-1])], "mark"),
        plot.dots(training, "training few" if len(rows) <= 60 else "training"),
        plot.line(validation, "validation"),
    ]
    best = dict(validation)[best_epoch]
    if isfinite(best):
        parts.append(plot.dots([(best_epoch, best)], "best"))
        side = "start strong" if best_epoch < first + (last - first) * 0.4 else "end strong"
        parts.append(plot.text((best_epoch, ticks[-1]), f" epoch {best_epoch}: {text_of(best)} ", side, up=6))
    about = f"{curve} over {len(rows)} epochs; validation at the best epoch, {best_epoch}: {text_of(best)}"
    return _svg(parts, about)


def _tick_texts(ticks: Sequence[float], curve: Curve) -> dict[float, str]:
    """Return each tick's label, with as many decimals as tell the ticks apart."""
    decimals = max(0, -floor(log10(ticks[1] - ticks[0]) + 1e-9) - (2 if curve == "accuracy" else 0))
    return {tick: f"{100 * tick:.{decimals}f} %" if curve == "accuracy" else f"{tick:.{decimals}f}" for tick in ticks}


def roc(points: Sequence[Point]) -> Markup:
    """Draw the ROC curve that `metrics.roc` returns, for the class dog."""
    plot = _Plot((0, 1), (0, 1))
    shares = {share: percent(share).replace(".0", "") for share in SHARES}
    parts = [
        _axes(plot, shares, shares, "cats classified as dogs", "dogs classified as dogs"),
        plot.line([(0, 0), (1, 1)], "mark"),
        plot.line(points, "validation"),
        plot.text((1, 0), f"AUC {area(points):.4f}", "end strong", up=12),
    ]
    return _svg(parts, f"ROC curve of the test images, area under it {area(points):.4f}")


def calibration(bins: Sequence[Bin]) -> Markup:
    """Draw the share of dogs over the predicted probability: a dot per bin, with the share's 95 % interval."""
    plot = _Plot((0, 1), (0, 1))
    shares = {share: percent(share).replace(".0", "") for share in SHARES}
    parts = [
        _axes(plot, shares, shares, "predicted probability of a dog", "share of dogs"),
        plot.line([(0, 0), (1, 1)], "mark"),
    ]
    for bin in bins:
        low, high = wilson_interval(bin.dogs, bin.images)
        parts.append(plot.line([(bin.mean, low), (bin.mean, high)], "whisker"))
    parts.append(plot.dots([(bin.mean, bin.dogs / bin.images) for bin in bins], "best"))
    text = ", ".join(f"{percent(bin.dogs / bin.images)} at {percent(bin.mean)}" for bin in bins)
    return _svg(parts, f"Share of dogs by predicted probability: {text}")


def ticks_over(low: float, high: float, most: int, ceiling: float = inf) -> list[float]:
    """Return at least two round, evenly spaced numbers, from below `low` to above `high`, none above `ceiling`."""
    span = max(high - low, 0.1, 1e-6 * abs(high))  # or the noise of a flat curve would fill the chart
    raw = span / (most - 1)
    power = 10.0 ** floor(log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    last = max(last, first + 1)
    if last * step > ceiling:
        last = floor(ceiling / step + 1e-9)
        first = min(first, last - 1)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _axes(
    plot: _Plot, x_ticks: Mapping[float, str], y_ticks: Mapping[float, str], x_label: str, y_label: str
) -> Markup:
    left = plot.x[0]
    parts = [plot.line([(left, tick), (plot.x[1], tick)], "grid") for tick in y_ticks]
    parts += [plot.text((left, tick), text, "end", left=5, up=-4) for tick, text in y_ticks.items()]
    parts += [plot.text((tick, plot.y[0]), text, "middle", up=-17) for tick, text in x_ticks.items()]
    parts.append(Markup('<text class="end" x="{}" y="{}">{}</text>').format(WIDTH - RIGHT, HEIGHT - 6, x_label))
    if y_label:
        parts.append(Markup('<text x="2" y="12">{}</text>').format(y_label))
    return Markup("").join(parts)


def _svg(parts: Iterable[Markup], about: str) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, about, Markup("").join(parts)
    )
