"""The predictions of two workers, brought together over a real connection."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catsdogs.data.archive import Identity
from catsdogs.data.assignment import Counts
from catsdogs.data.split import Record, Split
from catsdogs.pipeline import gather
from catsdogs.results.metrics import Shard
from catsdogs.runtime.errors import Interrupted
from catsdogs.runtime.signals import Interruption
from catsdogs.training.predictions import Prediction
from catsdogs.workers.group import WorkerGroup
from tests.workers import connected

IMAGES = [f"test/{label}s/{label}.{number}.jpg" for label in ("cat", "dog") for number in range(2)]
IDENTITY: Identity = {"uri": "a.zip", "size": 0, "etag": "", "directory_sha256": ""}
OWNERS = {image: index % 2 for index, image in enumerate(IMAGES)}


@pytest.fixture
def groups() -> Iterator[list[WorkerGroup]]:
    groups = [
        WorkerGroup(worker, 2, {1 - worker: end}, 30.0, Interruption())
        for worker, end in enumerate(connected(0, timeout=30.0))
    ]
    yield groups
    for group in groups:
        group.detach()
    for group in groups:
        group.__exit__(None, None, None)


def content(image: str) -> bytes:
    return image.encode() * 10


def split_of(worker: int, directory: Path) -> Split:
    """Each worker has its own shard's files, and knows of all."""
    for image, owner in OWNERS.items():
        if owner == worker:
            path = directory / image
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(image))
    records = [Record(image, image, 1, hashlib.sha256(content(image)).hexdigest()) for image in IMAGES]
    return Split(directory, Counts(0, 0, 2), IDENTITY, records, [], OWNERS)


def predictions(worker: int) -> list[Prediction]:
    """All wrong, so that worker 0 shows all of them."""
    return [
        Prediction(image, "cat", 0.9, "dog") if "cat" in image else Prediction(image, "dog", 0.1, "cat")
        for image, owner in OWNERS.items()
        if owner == worker
    ]


def gathered(
    groups: list[WorkerGroup], tmp_path: Path, theirs: Callable[[], list[Prediction]] = lambda: predictions(1)
) -> list[list[Prediction] | Exception]:
    """What each worker gets."""
    results: list[list[Prediction] | Exception] = [[], []]
    splits = [split_of(worker, tmp_path / str(worker)) for worker in (0, 1)]

    def work(worker: int) -> None:
        try:
            results[worker] = gather.of_all(theirs() if worker else predictions(0), splits[worker], groups[worker])
        except Exception as error:
            results[worker] = error

    threads = [threading.Thread(target=work, args=(worker,)) for worker in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 if any(isinstance(result, Exception) for result in results) else 30)
    # One that still waits for another that has failed.
    for group in groups:
        group._interruption.signal_name = "SIGTERM"
    for thread in threads:
        thread.join(10)
    return results


def test_all_predictions_in_one_workers_order(groups: list[WorkerGroup], tmp_path: Path) -> None:
    for result in gathered(groups, tmp_path):
        assert isinstance(result, list), result
        assert [prediction.image for prediction in result] == IMAGES
        assert all(isinstance(prediction, Prediction) for prediction in result)
    # Worker 0 has the other's images for its report.
    assert all((tmp_path / "0" / image).read_bytes() == content(image) for image in IMAGES)
    assert not (tmp_path / "1" / IMAGES[0]).exists()


@pytest.mark.parametrize(
    "theirs",
    [
        [],
        [Prediction("elsewhere.jpg", "cat", 0.5, "dog")],
        [Prediction(IMAGES[1], "bird", 0.5, "dog"), Prediction(IMAGES[3], "dog", 0.5, "dog")],
        [Prediction(IMAGES[1], "dog", 0.9, "dog"), Prediction(IMAGES[3], "dog", 0.9, "dog")],
        [Prediction(IMAGES[1], "cat", 0.1, "dog"), Prediction(IMAGES[3], "dog", 0.9, "dog")],
        [Prediction(IMAGES[1], "cat", 1e300, "dog"), Prediction(IMAGES[3], "dog", 0.9, "dog")],
        [Prediction(IMAGES[1], "cat", -0.1, "cat"), Prediction(IMAGES[3], "dog", 0.9, "dog")],
    ],
    ids=["none", "elsewhere", "a bird", "another label", "another verdict", "above 1", "below 0"],
)
def test_other_predictions_than_those_of_the_split(
    theirs: list[Prediction], groups: list[WorkerGroup], tmp_path: Path
) -> None:
    for result in gathered(groups, tmp_path, lambda: theirs):
        assert isinstance(result, Interrupted)
        assert "the workers' predictions are not those of the test images" in str(result)


def test_predictions_of_a_model_that_diverged(groups: list[WorkerGroup], tmp_path: Path) -> None:
    nan = float("nan")
    theirs = [Prediction(IMAGES[1], "cat", nan, "cat"), Prediction(IMAGES[3], "dog", nan, "cat")]
    for result in gathered(groups, tmp_path, lambda: theirs):
        assert isinstance(result, list), result
        assert [str(prediction.probability) for prediction in result] == ["0.9", "nan", "0.1", "nan"]


class Reporting(WorkerGroup):
    """A group as worker 0 has it, with what worker 1 sends."""

    def __init__(self, theirs: Shard):
        super().__init__(0, 2, {}, 0.0, Interruption())
        self._theirs = theirs

    def gather_json(self, value: Any, expected: Any) -> list[Any]:
        return [value, self._theirs]


def test_metrics_of_all_workers() -> None:
    theirs = Shard(0.5, 2, 1)
    metrics = gather.metrics_of_all(predictions(0), 4, Reporting(theirs))
    assert (metrics["images"], metrics["correct"], metrics["accuracy"]) == (4, 1, 0.25)


@pytest.mark.parametrize(
    "theirs",
    [Shard(0.5, 2, 3), Shard(0.5, 2, -1), Shard(-0.5, 2, 1), Shard(0.5, -2, -2), Shard(0.0, 0, 0), Shard(0.5, 9, 1)],
)
def test_metrics_that_cannot_be_those_of_the_images(theirs: Shard) -> None:
    """Otherwise an accuracy of 9.99 were published, or worker 0 divided by nothing."""
    with pytest.raises(Interrupted, match="the workers' metrics are not those of the training images"):
        gather.metrics_of_all(predictions(0), 4, Reporting(theirs))


def test_image_that_is_not_the_splits(groups: list[WorkerGroup], tmp_path: Path) -> None:
    def theirs() -> list[Prediction]:
        (tmp_path / "1" / IMAGES[1]).write_bytes(b"another image")
        return predictions(1)

    result = gathered(groups, tmp_path, theirs)[0]
    assert isinstance(result, Interrupted)
    assert f"worker 1 sent {IMAGES[1]}, but not as split.json has it" in str(result)
    assert not (tmp_path / "0" / IMAGES[1]).exists()
