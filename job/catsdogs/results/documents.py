"""run.json and metrics.json: what they hold, and how they are written and read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from catsdogs.data.archive import Identity
from catsdogs.storage import document
from catsdogs.storage.store import Store
from catsdogs.training.predictions import PredictionMetrics

if TYPE_CHECKING:  # it imports TensorFlow
    from catsdogs.training.export import Export

RUN_FORMAT = 1
"""Format 0, without a number, is the same otherwise."""
METRICS_FORMAT = 1
"""In format 0, without a number, `train` has the running means of the best epoch's training steps."""
MAX_SIZE = 1 << 20
"""Bytes of either document."""


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


def dump_run(run: RunDocument) -> bytes:
    return document.dump(run, RUN_FORMAT)


def load_run(data: bytes, where: str) -> dict[str, Any]:
    """Return the content of run.json, its values unchecked. Raises ValueError for what is not one, ConfigError for a
    newer format."""
    return document.load(data, RUN_FORMAT, where)


def dump_metrics(metrics: Metrics) -> bytes:
    return document.dump(metrics, METRICS_FORMAT)


def load_metrics(data: bytes, where: str) -> dict[str, Any]:
    """Return the content of metrics.json, its values unchecked. Raises what `load_run` raises."""
    # A model that diverged has NaN.
    return document.load(data, METRICS_FORMAT, where, with_nan=True)


def evaluates_train(metrics: Mapping[str, Any]) -> bool:
    """Return whether `train` has the model's own metrics, and not the running means of older versions."""
    return int(metrics.get(document.FORMAT, 0)) >= 1


def read_bounded(store: Store, key: str, max_bytes: int = MAX_SIZE) -> bytes:
    """Return the object's bytes. Raises NotFound, ValueError if there are more than `max_bytes`."""
    stat = store.stat(key)
    if stat.size > max_bytes:
        raise ValueError(f"larger than {max_bytes} bytes")
    return b"".join(store.stream(key, 0, stat.size, stat.etag))
