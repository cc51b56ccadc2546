"""report.html: a finished run on one page for people. The page needs no script, no other file and no network."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TypedDict

from catsdogs.config.history import HistoryRow
from catsdogs.data.images import NotAnImage, decode
from catsdogs.data.split import Excluded
from catsdogs.results import charts
from catsdogs.results.documents import Device, Metrics, RunDocument, Seconds, ValidationMetrics
from catsdogs.results.metrics import calibration, calibration_error, roc, wilson_interval
from catsdogs.results.tables import HISTORY_COLUMNS, QUANTITIES
from catsdogs.runtime.errors import VolumeError, printable
from catsdogs.runtime.formatting import duration_text, percent, size_text
from catsdogs.storage import volume
from catsdogs.storage.volume import AnyPath
from catsdogs.training.predictions import Prediction

TEMPLATE = "report.html.j2"
MAX_MISTAKES = 24
THUMBNAIL = 160
"""Pixels of a thumbnail's longer side, enough for dense screens; about 6 kB of JPEG."""
MAX_EXCLUDED = 100
"""Rows; split.json has them all."""


def report_html(
    path: Path,
    *,
    run: RunDocument,
    metrics: Metrics,
    history: Sequence[HistoryRow],
    excluded: Sequence[Excluded],
    predictions: Sequence[Prediction],
    directory: AnyPath,
) -> None:
    """Write the page.

    `excluded` has the keys of split.json's `quarantined`; the predictions' images are in `directory`.
    Raises OSError, and VolumeError if an image is no longer what was evaluated.
    """
    test = metrics["test"]
    best_epoch = int(metrics["best_epoch"])
    page = _render(
        run=run,
        metrics=metrics,
        test=test,
        interval=wilson_interval(test["correct"], test["images"]),
        curves=[
            ("Accuracy", charts.history(history, "accuracy", best_epoch)),
            ("Loss", charts.history(history, "loss", best_epoch)),
        ],
        confusion=_confusion(test["confusion"]),
        splits=_splits(metrics),
        **_probabilities(predictions),
        mistakes=[_mistake(prediction, directory) for prediction in worst_mistakes(predictions)],
        excluded=[(image["member"], image["reason"], image.get("replaced_by")) for image in excluded],
        max_excluded=MAX_EXCLUDED,
        machine=_machine(run["device"], run.get("threads"), metrics),
        stages=_stages(metrics["seconds"]),
        history_columns=HISTORY_COLUMNS,
        epochs=[
            (f"{row['epoch']:.0f}", *(f"{row[name]:.4f}" for name in QUANTITIES), f"{row['seconds']:.1f}")
            for row in history
        ],
    )
    # No line break between a number and its percent sign.
    path.write_text(page.replace(" %", "\u00a0%"), encoding="utf-8")


def _render(**values: object) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("catsdogs", "results"), autoescape=True, undefined=StrictUndefined,
        keep_trailing_newline=True, finalize=_shown,
    )  # fmt: skip
    environment.filters["percent"] = percent
    return environment.get_template(TEMPLATE).render(**values)


def _shown(value: object) -> object:
    """Return what an expression of the template gives, its unprintable characters escaped: names come from outside."""
    # Not what is HTML already, such as a chart.
    return printable(value) if type(value) is str else value


def worst_mistakes(predictions: Iterable[Prediction]) -> list[Prediction]:
    """Return at most MAX_MISTAKES wrong predictions, the most confident first."""
    wrong = [
        prediction
        for prediction in predictions
        if prediction.predicted != prediction.label and isfinite(prediction.probability)
    ]
    return sorted(wrong, key=lambda one: (-abs(one.probability - 0.5), one.image))[:MAX_MISTAKES]


def _probabilities(predictions: Iterable[Prediction]) -> dict[str, str | None]:
    """Return the ROC curve and the calibration, as far as the probabilities are numbers."""
    outcomes = [(one.label == "dog", one.probability) for one in predictions if isfinite(one.probability)]
    points, bins = roc(outcomes), calibration(outcomes)
    return {
        "roc": charts.roc(points) if points else None,
        "calibration": charts.calibration(bins) if bins else None,
        "calibration_error": f"{100 * calibration_error(bins):.1f} points" if bins else "–",
    }


def _splits(metrics: Metrics) -> list[tuple[str, str, str]]:
    """Return the model's accuracy and loss on each split."""
    of_split: dict[str, ValidationMetrics] = {
        "train": metrics["train"],
        "validation": metrics["validation"],
        "test": metrics["test"],
    }
    return [(name, percent(values["accuracy"]), f"{values['loss']:.4f}") for name, values in of_split.items()]


def _stages(seconds: Seconds) -> list[tuple[str, str]]:
    return [
        ("preparing", duration_text(seconds["preparing"])),
        ("training", duration_text(seconds["training"])),
        ("evaluation", duration_text(seconds["evaluation"])),
    ]


class _Cell(TypedDict):
    kind: str
    """CSS class: right or wrong."""
    images: int
    share: float
    """Of the row."""


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> list[tuple[str, list[_Cell]]]:
    """Return the rows of the confusion matrix, a label and its cells."""
    return [
        (
            label,
            [
                {
                    "kind": "right" if predicted == label else "wrong",
                    "images": images,
                    "share": images / max(1, sum(row.values())),
                }
                for predicted, images in row.items()
            ],
        )
        for label, row in confusion.items()
    ]


def _mistake(prediction: Prediction, directory: AnyPath) -> dict[str, str]:
    confidence = prediction.probability if prediction.predicted == "dog" else 1 - prediction.probability
    return {
        "caption": f"{prediction.label}, predicted {prediction.predicted}: {percent(confidence)}",
        "name": Path(prediction.image).name,
        "thumbnail": base64.b64encode(thumbnail(directory / prediction.image)).decode(),
    }


def thumbnail(path: AnyPath) -> bytes:
    """Return a JPEG of the image, at most THUMBNAIL pixels wide and high, in its proportions, without its EXIF data.

    Raises VolumeError if the file is not an image any more, OSError.
    """
    from PIL import Image

    try:
        image = Image.fromarray(decode(volume.contents(path)))
    except NotAnImage as reason:
        raise VolumeError(f"{path}: damaged since it was checked ({reason}); run again") from None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _machine(device: Device, threads: int | None, metrics: Metrics) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = list(device.items())
    if threads:
        rows.append(("threads", threads))
    if metrics.get("peak_memory_bytes"):
        rows.append(("peak memory", size_text(metrics["peak_memory_bytes"])))
    if metrics.get("starts"):
        rows.append(("starts", metrics["starts"]))
    return rows
