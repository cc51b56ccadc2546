"""report.html: a finished run on one page for people, which needs nothing but itself."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import isfinite
from pathlib import Path
from typing import Any

from catsdogs.data.images import NotAnImage, decode
from catsdogs.data.labels import SPLITS
from catsdogs.results import charts
from catsdogs.results.metrics import calibration, calibration_error, roc, wilson_interval
from catsdogs.results.report_template import PAGE
from catsdogs.results.tables import FIGURES, HISTORY_COLUMNS
from catsdogs.runtime.errors import VolumeError
from catsdogs.runtime.formatting import duration_text, percent, size_text
from catsdogs.training.predictions import Prediction

MAX_MISTAKES = 24
THUMBNAIL = 160
"""Pixels of a thumbnail's longer side, as twice as dense screens show it; about 6 kB of JPEG."""
MAX_LEFT_OUT = 100
"""Rows; split.json has them all."""


def report_html(
    path: Path,
    *,
    run: Mapping[str, Any],
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    quarantined: Sequence[Mapping[str, str]],
    predictions: Sequence[Prediction],
    directory: Path,
) -> None:
    """Writes the page: no script, no other file, no network.

    `run` and `metrics` are what run.json and metrics.json hold, `history` has the keys of HISTORY_COLUMNS,
    `quarantined` those of split.json; the predictions' images lie in `directory`.
    Raises OSError, and VolumeError if an image is no longer what was evaluated.
    """
    test = metrics["test"]
    low, high = wilson_interval(test["correct"], test["images"])
    best = int(metrics["best_epoch"])
    texts = {
        "run_id": run["run_id"],
        "accuracy": percent(test["accuracy"]),
        "interval": f"{percent(low)} to {percent(high)}",
        "correct": f"{test['correct']:,}",
        "images": f"{test['images']:,}",
        "best_epoch": str(best),
        "epochs": str(metrics["epochs"]),
    }
    mistakes = worst_mistakes(predictions)
    shown = f"{len(mistakes)} of {test['images'] - test['correct']:,}"
    parts = {
        "accuracy_curve": charts.history(history, "accuracy", best),
        "loss_curve": charts.history(history, "loss", best),
        "confusion": _confusion(test["confusion"]),
        **_probabilities(predictions),
        "splits": _table(
            ("", "accuracy", "loss"),
            [(name, percent(metrics[name]["accuracy"]), f"{metrics[name]['loss']:.4f}") for name in SPLITS],
            "figures",
        ),
        "mistakes": (
            f'<p>{shown}, the surest first.</p><div class="mistakes">{_gallery(mistakes, directory)}</div>'
            if mistakes
            else "<p>None.</p>"
        ),
        "left_out": _left_out(quarantined),
        **{part: _table((), run[part].items()) for part in ("settings", "versions", "archive")},
        "device": _table((), _machine(run["device"], metrics)),
        "stages": _table((), [(name, duration_text(seconds)) for name, seconds in metrics["seconds"].items()]),
        "by_epoch": _table(
            HISTORY_COLUMNS,
            [
                (f"{row['epoch']:.0f}", *(f"{row[name]:.4f}" for name in FIGURES), f"{row['seconds']:.1f}")
                for row in history
            ],
            "figures",
        ),
    }
    page = PAGE.substitute(parts, **{name: escape(text) for name, text in texts.items()})
    # No line ends between a number and its percent sign.
    path.write_text(page.replace(" %", "\u00a0%"), encoding="utf-8")


def worst_mistakes(predictions: Iterable[Prediction]) -> list[Prediction]:
    """At most MAX_MISTAKES wrong verdicts, those that the model was surest of first."""
    wrong = [one for one in predictions if one.predicted != one.label and isfinite(one.probability)]
    return sorted(wrong, key=lambda one: (-abs(one.probability - 0.5), one.image))[:MAX_MISTAKES]


def _probabilities(predictions: Iterable[Prediction]) -> dict[str, str]:
    """ROC curve and calibration, as far as the model gave numbers."""
    outcomes = [(one.label == "dog", one.probability) for one in predictions if isfinite(one.probability)]
    points, bins = roc(outcomes), calibration(outcomes)
    nothing = "<p>The model gave no numbers that this could be drawn from.</p>"
    error = f"{100 * calibration_error(bins):.1f} points" if bins else "–"
    return {
        "roc": charts.roc(points) if points else nothing,
        "calibration": charts.calibration(bins) if bins else nothing,
        "calibration_error": error,
    }


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> str:
    """A table, each cell as dark as its share of the row is large."""
    lines = []
    for truth, row in confusion.items():
        cells = []
        for verdict, count in row.items():
            share = count / max(1, sum(row.values()))
            kind = "right" if verdict == truth else "wrong"
            cells.append(f'<td class="{kind}" style="--share:{share:.3f}">{count:,} ({percent(share)})</td>')
        lines.append(f'<tr><th scope="row">{escape(truth)}</th>{"".join(cells)}</tr>')
    heads = "".join(f'<th scope="col">called {escape(name)}</th>' for name in confusion)
    return f'<div class="wide"><table class="confusion"><tr><td></td>{heads}</tr>{"".join(lines)}</table></div>'


def _gallery(mistakes: Iterable[Prediction], directory: Path) -> str:
    figures = []
    for one in mistakes:
        sure = one.probability if one.predicted == "dog" else 1 - one.probability
        said = escape(f"{one.label}, called {one.predicted} with {percent(sure)}")
        name = escape(Path(one.image).name)
        source = base64.b64encode(thumbnail(directory / one.image)).decode()
        figures.append(
            f'<figure><img src="data:image/jpeg;base64,{source}" alt="{said}">'
            f"<figcaption>{said}<br><small>{name}</small></figcaption></figure>"
        )
    return "".join(figures)


def thumbnail(path: Path) -> bytes:
    """A JPEG of the image, at most THUMBNAIL pixels wide and high, its proportions kept, without its EXIF data."""
    from PIL import Image

    try:
        image = Image.fromarray(decode(path.read_bytes()))
    except NotAnImage as reason:
        raise VolumeError(f"{path}: damaged since it was checked ({reason}); run again") from None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _left_out(quarantined: Sequence[Mapping[str, str]]) -> str:
    if not quarantined:
        return "<p>None.</p>"
    rows = [(item["member"], item["reason"], item.get("replaced_by")) for item in quarantined[:MAX_LEFT_OUT]]
    more = len(quarantined) - len(rows)
    rest = f"<p>And {more:,} more, in split.json.</p>" if more else ""
    return _table(("member", "reason", "replaced by"), rows, "list") + rest


def _machine(device: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = list(device.items())
    if metrics.get("peak_memory_bytes"):
        rows.append(("peak memory", size_text(metrics["peak_memory_bytes"])))
    if metrics.get("starts"):
        rows.append(("starts", metrics["starts"]))
    return rows


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "facts") -> str:
    """HTML; everything in it is escaped, a row's first cell names it, None becomes a dash."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' if text else "<td></td>" for text in heads)
    lines = [f"<tr>{head}</tr>"] if heads else []
    for name, *cells in rows:
        values = "".join(f"<td>{'–' if cell is None else escape(str(cell))}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{escape(str(name))}</th>{values}</tr>')
    return f'<div class="wide"><table class="{kind}">{"".join(lines)}</table></div>'
