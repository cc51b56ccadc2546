"""Small drawings as inline SVG. Their colours are the page's CSS variables, so that they follow light and dark."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from math import ceil, floor, inf, isfinite, log10
from typing import NamedTuple

from catsdogs.results.metrics import Bin, area, wilson_interval
from catsdogs.runtime.formatting import percent

Point = tuple[float, float]

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 20, 30, 40
"""Room around the plot for its labels, in units of the viewBox; one is about a pixel on a phone."""
SHARES = [0.0, 0.25, 0.5, 0.75, 1.0]


class _Plot(NamedTuple):
    """Where values lie in the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, point: Point) -> str:
        (x, y), (x1, x2), (y1, y2) = point, self.x, self.y
        across = LEFT + (WIDTH - LEFT - RIGHT) * (x - x1) / (x2 - x1)
        down = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - y1) / (y2 - y1)
        return f"{across:.1f} {down:.1f}"

    def line(self, points: Iterable[Point], kind: str) -> str:
        """Broken where a value is no number."""
        path, pen = [], "M"
        for point in points:
            if all(map(isfinite, point)):
                path.append(pen + self.at(point))
                pen = "L"
            else:
                pen = "M"
        return f'<path class="{kind}" d="{"".join(path)}"/>'

    def dots(self, points: Iterable[Point], kind: str) -> str:
        """Lines of no length: their round ends are dots, and all are one element."""
        path = "".join(f"M{self.at(point)}h0" for point in points if all(map(isfinite, point)))
        return f'<path class="{kind}" d="{path}"/>'

    def text(self, point: Point, text: str, kind: str, up: float = 0) -> str:
        x, y = self.at(point).split()
        return f'<text class="{kind}" x="{x}" y="{float(y) - up:.1f}">{escape(text)}</text>'


def history(rows: Sequence[Mapping[str, float]], quantity: str, best_epoch: int) -> str:
    """Accuracy or loss over the epochs: training as dots, validation as a line, the best epoch marked.

    Rows are those of history.csv. What is not finite is left out.
    """
    text_of: Callable[[float], str] = percent if quantity == "accuracy" else "{:.4f}".format
    training = [(row["epoch"], row[quantity]) for row in rows]
    validation = [(row["epoch"], row[f"val_{quantity}"]) for row in rows]
    values = [value for _, value in training + validation if isfinite(value)] or [0.0]
    ticks = ticks_over(min(values), max(values), most=5, ceiling=1 if quantity == "accuracy" else inf)
    first, last = rows[0]["epoch"], rows[-1]["epoch"]
    margin = max(0.5, len(rows) / 50)
    plot = _Plot((first - margin, last + margin), (ticks[0], ticks[-1]))
    decimals = max(0, -floor(log10(ticks[1] - ticks[0]) + 1e-9) - (2 if quantity == "accuracy" else 0))
    y_ticks = {
        tick: f"{100 * tick:.{decimals}f} %" if quantity == "accuracy" else f"{tick:.{decimals}f}" for tick in ticks
    }
    whole = [tick for tick in ticks_over(first, last, most=6) if tick == int(tick) and first <= tick <= last]
    parts = [
        _axes(plot, {tick: f"{tick:.0f}" for tick in whole}, y_ticks, "epoch", ""),
        plot.line([(best_epoch, ticks[0]), (best_epoch, ticks[-1])], "mark"),
        plot.dots(training, "training few" if len(rows) <= 60 else "training"),
        plot.line(validation, "validation"),
    ]
    best = dict(validation)[best_epoch]
    if isfinite(best):
        parts.append(plot.dots([(best_epoch, best)], "best"))
        side = "start strong" if best_epoch < first + (last - first) * 0.4 else "end strong"
        parts.append(plot.text((best_epoch, ticks[-1]), f" epoch {best_epoch}: {text_of(best)} ", side, up=6))
    about = f"{quantity} over {len(rows)} epochs; validation at the best epoch, {best_epoch}: {text_of(best)}"
    return _svg(parts, about)


def roc(points: Sequence[Point]) -> str:
    """The ROC curve that `measures.roc` gives, for the class dog."""
    plot = _Plot((0, 1), (0, 1))
    shares = {share: percent(share).replace(".0", "") for share in SHARES}
    parts = [
        _axes(plot, shares, shares, "cats called dog", "dogs called dog"),
        plot.line([(0, 0), (1, 1)], "mark"),
        plot.line(points, "validation"),
        plot.text((1, 0), f"AUC {area(points):.4f}", "end strong", up=12),
    ]
    return _svg(parts, f"ROC curve of the test images, area under it {area(points):.4f}")


def calibration(bins: Sequence[Bin]) -> str:
    """Share of dogs over the probability given, a dot a bin, with the share's 95 % interval."""
    plot = _Plot((0, 1), (0, 1))
    shares = {share: percent(share).replace(".0", "") for share in SHARES}
    parts = [_axes(plot, shares, shares, "probability of a dog", "share of dogs"), plot.line([(0, 0), (1, 1)], "mark")]
    for one in bins:
        low, high = wilson_interval(one.dogs, one.images)
        parts.append(plot.line([(one.mean, low), (one.mean, high)], "whisker"))
    parts.append(plot.dots([(one.mean, one.dogs / one.images) for one in bins], "best"))
    said = ", ".join(f"{percent(one.dogs / one.images)} at {percent(one.mean)}" for one in bins)
    return _svg(parts, f"Share of dogs by the probability given: {said}")


def ticks_over(low: float, high: float, most: int, ceiling: float = inf) -> list[float]:
    """Round numbers, evenly spaced, from below `low` to above `high`, but never above `ceiling`; two at least."""
    span = max(high - low, 0.1, 1e-6 * abs(high))  # or a flat curve's noise would fill the drawing
    raw = span / (most - 1)
    power = 10.0 ** floor(log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    last = max(last, first + 1)
    if last * step > ceiling:
        last = floor(ceiling / step + 1e-9)
        first = min(first, last - 1)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _axes(plot: _Plot, x_ticks: Mapping[float, str], y_ticks: Mapping[float, str], x_label: str, y_label: str) -> str:
    parts = [plot.line([(plot.x[0], tick), (plot.x[1], tick)], "grid") for tick in y_ticks]
    for tick, text in y_ticks.items():
        x, y = plot.at((plot.x[0], tick)).split()
        parts.append(f'<text class="end" x="{float(x) - 5:.1f}" y="{float(y) + 4:.1f}">{text}</text>')
    parts += [plot.text((tick, plot.y[0]), text, "middle", up=-17) for tick, text in x_ticks.items()]
    parts.append(f'<text class="end" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}">{escape(x_label)}</text>')
    if y_label:
        parts.append(f'<text x="2" y="12">{escape(y_label)}</text>')
    return "".join(parts)


def _svg(parts: Iterable[str], about: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(about)}">{"".join(parts)}</svg>'
