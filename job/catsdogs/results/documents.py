"""run.json and metrics.json: what they hold, and how they are written and read."""

from collections.abc import Mapping
from math import isclose
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict

from catsdogs.data.archive import Identity
from catsdogs.data.labels import CLASSES
from catsdogs.runtime import cores
from catsdogs.storage import document
from catsdogs.storage.schema import Count, Number, Share, at_least, at_most, within
from catsdogs.training.predictions import PredictionMetrics

if TYPE_CHECKING:  # it imports TensorFlow
    from catsdogs.training.export import Export

RUN_FORMAT = 1
"""Format 0, without a number, is the same otherwise."""
METRICS_FORMAT = 1
"""In format 0, without a number, `train` has the running means of the best epoch's training steps."""
MAX_SIZE = document.MAX_SIZE
"""Bytes of either document."""
MAX_SHOWN = 100
"""Characters of a text that a table shows, such as the name of a recipe."""

Shown = Annotated[str, at_most(MAX_SHOWN)]
Positive = Annotated[int, at_least(1)]
Threads = Annotated[int, within(1, cores.MAX_THREADS)]


class Device(TypedDict):
    name: str
    dtype: str
    replicas: int


class RunDocument(TypedDict):
    """run.json: enough to repeat the run."""

    run_id: str
    settings: dict[str, Any]
    """`Settings.model_settings`."""
    versions: dict[str, str]
    """Of this package, Python, and the packages that decide the result."""
    device: Device
    threads: NotRequired[int]
    """That computed each operation, in all starts of the run. Another number rounds sums otherwise. Missing in runs of
    older versions."""
    archive: Identity


class ValidationMetrics(TypedDict):
    """The model's own, like those of the other splits."""

    loss: float
    accuracy: float


class SplitMetrics(ValidationMetrics):
    images: int
    correct: int


class Seconds(TypedDict):
    preparing: float
    """Of all starts."""
    training: float
    evaluation: float


class Metrics(TypedDict):
    """metrics.json. The values of a model that diverged are NaN."""

    best_epoch: int
    """From 1; the epoch whose weights the model has."""
    epochs: int
    train: SplitMetrics
    validation: ValidationMetrics
    test: PredictionMetrics
    starts: int
    seconds: Seconds
    peak_memory_bytes: int
    exports: NotRequired["dict[str, Export]"]
    """By format of --export."""


class _Settings(TypedDict):
    """What readers use of the settings. A later version may have others besides."""

    recipe_name: Shown
    epochs: Positive
    seed: Count
    image_size: Positive
    batch_size: Positive
    learning_rate: Number
    train_per_class: Count | None


class _ReadRun(TypedDict):
    run_id: str
    settings: _Settings
    device: Device
    threads: NotRequired[Threads]
    archive: Identity


class _ReadSplit(TypedDict):
    """Of the training images; in format 0, running means."""

    loss: Number
    accuracy: Share
    images: NotRequired[Count]
    correct: NotRequired[Count]


class _ReadTest(TypedDict):
    loss: Number
    accuracy: Share
    images: Positive
    correct: Count
    confusion: dict[str, dict[str, Count]]


class _ReadMetrics(TypedDict):
    best_epoch: Positive
    epochs: Positive
    train: _ReadSplit
    validation: _ReadSplit
    test: _ReadTest


def dump_run(run: RunDocument | Mapping[str, Any]) -> bytes:
    return document.dump(run, RUN_FORMAT)


def load_run(data: bytes, where: str) -> dict[str, Any]:
    """Return the content of run.json, the keys of _ReadRun checked.

    Raises ValueError for what is not one, ConfigError for a newer format.
    """
    return dict(document.load_as(_ReadRun, data, RUN_FORMAT, where))


class _Owner(TypedDict):
    settings: dict[str, object]
    archive: NotRequired[dict[str, object]]


def load_owner(data: bytes, where: str) -> Mapping[str, Any]:
    """Return the parts of run.json that say whose it is: settings, and archive if it has one. Their values are any
    JSON. Raises what `load_run` raises."""
    return document.load_as(_Owner, data, RUN_FORMAT, where)


class _Begun(TypedDict):
    threads: NotRequired[Threads]


def load_threads(data: bytes, where: str) -> int | None:
    """Return the threads in the run.json of a run that began; None if an older version began it. Raises what `load_run`
    raises."""
    return document.load_as(_Begun, data, RUN_FORMAT, where).get("threads")


def dump_metrics(metrics: Metrics) -> bytes:
    return document.dump(metrics, METRICS_FORMAT)


def load_metrics(data: bytes, where: str) -> dict[str, Any]:
    """Return the content of metrics.json, the keys of _ReadMetrics checked. Raises what `load_run` raises."""
    # A model that diverged has NaN.
    metrics = document.load_as(_ReadMetrics, data, METRICS_FORMAT, where, with_nan=True)
    test, train = metrics["test"], metrics["train"]
    if evaluates_train(metrics) and not {"images", "correct"} <= train.keys():
        raise ValueError("train: images or correct is missing")
    if test["confusion"].keys() != set(CLASSES) or any(
        row.keys() != set(CLASSES) for row in test["confusion"].values()
    ):
        raise ValueError("test.confusion: not of these classes")
    return dict(metrics)


def agrees(counts: Mapping[str, Any]) -> bool:
    """Return whether the accuracy of a split is that of its counts."""
    correct, images = counts["correct"], counts["images"]
    return correct <= images and isclose(counts["accuracy"], correct / images, abs_tol=1e-4)


def evaluates_train(metrics: Mapping[str, Any]) -> bool:
    """Return whether `train` has the model's own metrics, and not the running means of older versions."""
    return int(metrics.get(document.FORMAT, 0)) >= 1
