"""The data loader, without a model, against those of Keras and tf.data."""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fixtures import BOOK, Fixtures
from benchmarks.measure import NOT_RUN, Row, Sample, Samples, cpu, here, in_child, interleaved, ratio, wall
from benchmarks.notebook import tensorflow
from catsdogs.data.assignment import Counts
from catsdogs.data.augmentation import Augmentation
from catsdogs.data.loader import DataLoader
from catsdogs.runtime import cores, memory

OURS, KERAS, DATASET = "ours", "ImageDataGenerator", "image_dataset_from_directory"
CACHED = "tf.data .cache()"
SIZE = 150
BATCH, LARGE = 20, 512
LATER = 5
"""Passes over the images in one measurement of later passes."""
CONSUMER = 20_000
"""Images a second that a fast GPU consumes."""

Pass = Callable[[], Any]
"""Yields every batch of one pass over the images."""


def rows(fixtures: Fixtures, repeats: int) -> Iterator[Row]:
    small = fixtures.images(fixtures.plain, "small", BOOK) / "train"
    count = 2 * BOOK.train
    first = in_child(first_passes, small, BATCH, repeats)
    yield from _against("First pass, 200×200", first, count, (KERAS, DATASET))
    if fixtures.original:
        large = fixtures.images(fixtures.original, "large", Counts(300, 1, 1)) / "train"
        first = in_child(first_passes, large, BATCH, repeats)
        yield from _against("First pass, original size", first, 600, (KERAS, DATASET))
    else:
        yield Row("First pass, original size", NOT_RUN.format("needs ORIGINAL"), "≥ 1.2 × the faster one")
    later = in_child(later_passes, small, BATCH, repeats, (OURS, KERAS, DATASET, CACHED))
    yield from _against("Later passes", later, LATER * count, (CACHED,))
    augmented = in_child(augmenting_passes, small, max(1, repeats // 2))
    yield from _against("Flip, rotation, zoom, shift; a later pass", augmented, count, (KERAS,), 10)
    instant = in_child(later_passes, small, LARGE, repeats, (OURS, DATASET, CACHED))
    yield Row(
        f"Batches of {LARGE} to an instant consumer: images/s a core (of CPU time)",
        "; ".join(f"{name} {LATER * count / cpu(samples):,.0f}" for name, samples in instant.items()),
    )
    waited, late, batches, overslept = in_child(paced, small)
    yield Row(
        f"A consumer of {CONSUMER:,} images/s, after the first pass, {cores.usable()} cores",
        f"waits {100 * waited:.1f} % of its time; {late} of {batches} batches over 1 ms late,"
        f" as {overslept} of as many sleeps without any batches", "never waits", late == 0,
    )  # fmt: skip


def _against(what: str, samples: Samples, count: int, others: tuple[str, ...], least: float = 1.2) -> Iterator[Row]:
    yield Row(
        f"{what}: images/s (a second of CPU)",
        "; ".join(f"{name} {_rate(measured, count)}" for name, measured in samples.items()),
    )
    best = min(others, key=lambda name: wall(samples[name]))
    faster, cheaper = 1 / ratio(samples, OURS, best), 1 / ratio(samples, OURS, best, cpu)
    yield Row(
        f"{what}: ours, against {best}", f"{faster:.2f} × ({cheaper:.2f} in CPU)", f"≥ {least:g} ×", faster >= least
    )


def _rate(samples: list[Sample], count: int) -> str:
    return f"{count / wall(samples):,.0f} ({count / cpu(samples):,.0f})"


def first_passes(directory: Path, batch: int, repeats: int) -> Samples:
    """Measure the first pass of a new loader, each time."""
    makers, variants = _makers(directory, batch), (OURS, KERAS, DATASET)
    return interleaved({name: partial(_sampled, makers[name], 1, 0) for name in variants}, repeats)


def later_passes(directory: Path, batch: int, repeats: int, names: tuple[str, ...]) -> Samples:
    """Measure LATER passes of loaders that have made one pass already."""
    makers = _makers(directory, batch)
    return interleaved({name: partial(_sampled, makers[name], LATER, 1) for name in names}, repeats)


def augmenting_passes(directory: Path, repeats: int) -> Samples:
    """Measure a second pass that distorts each image in the same ways."""
    share = 0.2
    ours = partial(
        _ours, directory, BATCH,
        Augmentation(rotation=40, width_shift=share, height_shift=share, zoom=share, horizontal_flip=True),
    )  # fmt: skip
    theirs = partial(
        _keras, directory, BATCH, rotation_range=40, width_shift_range=share, height_shift_range=share,
        zoom_range=share, horizontal_flip=True,
    )  # fmt: skip
    return interleaved({OURS: partial(_sampled, ours, 1, 1), KERAS: partial(_sampled, theirs, 1, 0)}, repeats)


def _sampled(make: Callable[[], Pass], passes: int, before: int) -> Sample:
    one_pass = make()
    for _ in range(before):
        _consumed(one_pass)
    samples: list[Sample] = []
    with here(samples):
        for _ in range(passes):
            _consumed(one_pass)
    return samples[0]


def _consumed(one_pass: Pass) -> None:
    for _batch in one_pass():
        pass


def paced(directory: Path) -> tuple[float, int, int, int]:
    """Return how a consumer of CONSUMER images/s fares: the share of its time that it waits, the batches that are over
    1 ms late, and all batches; then, of as many sleeps in an idle process, those that end over 1 ms late."""
    loader = _loader(directory, LARGE)
    batches = loader.batches()
    for _ in range(len(loader)):
        next(batches)
    waits, period = [], LARGE / CONSUMER
    for _ in range(30 * len(loader)):
        began = time.monotonic()
        batch = next(batches)
        waits.append(time.monotonic() - began)
        time.sleep(period * len(batch.labels) / LARGE)
        del batch
    batches.close()
    # The first pass had no pauses, so these batches were still being made when it ended, and none was ready.
    waits, overslept = waits[cores.usable() :], []
    for _ in waits:
        due = time.monotonic() + period
        time.sleep(period)
        overslept.append(time.monotonic() - due)
    share = statistics.mean(waits) / (statistics.mean(waits) + period)
    return share, sum(late > 1e-3 for late in waits), len(waits), sum(late > 1e-3 for late in overslept)


def _makers(directory: Path, batch: int) -> dict[str, Callable[[], Pass]]:
    return {
        OURS: partial(_ours, directory, batch),
        KERAS: partial(_keras, directory, batch),
        DATASET: partial(_dataset, directory, batch),
        CACHED: partial(_cached, directory, batch),
    }


def _loader(directory: Path, batch: int, augmentation: Augmentation | None = None) -> DataLoader:
    return DataLoader.of(
        sorted(directory.glob("*/*.jpg")), batch_size=batch, image_size=SIZE, seed=0, shuffled=True,
        scratch=directory.parent, max_bytes=int(memory.SHARE_FOR_IMAGES * memory.limit()),
        augmentation=augmentation,
    )  # fmt: skip


def _ours(directory: Path, batch: int, augmentation: Augmentation | None = None) -> Pass:
    loader = _loader(directory, batch, augmentation)
    batches = loader.batches()
    return lambda: (next(batches) for _ in range(len(loader)))


def _keras(directory: Path, batch: int, **augmentation: Any) -> Pass:
    generators = tensorflow().keras.preprocessing.image.ImageDataGenerator(rescale=1 / 255, **augmentation)
    flow = generators.flow_from_directory(directory, target_size=(SIZE, SIZE), batch_size=batch, class_mode="binary")
    return lambda: (next(flow) for _ in range(len(flow)))


def _dataset(directory: Path, batch: int) -> Pass:
    data = _images(directory, batch).map(_scaled(), -1).prefetch(-1)
    return lambda: iter(data)


def _cached(directory: Path, batch: int) -> Pass:
    tf = tensorflow()
    decoded = _images(directory, 1).map(lambda images, labels: (tf.cast(images[0], tf.uint8), labels[0]), -1).cache()
    data = decoded.shuffle(2 * BOOK.train).batch(batch).map(_scaled(), -1).prefetch(-1)
    return lambda: iter(data)


def _images(directory: Path, batch: int) -> Any:
    return tensorflow().keras.utils.image_dataset_from_directory(
        directory, label_mode="binary", batch_size=batch, image_size=(SIZE, SIZE), verbose=False
    )


def _scaled() -> Callable[[Any, Any], tuple[Any, Any]]:
    tf = tensorflow()
    return lambda images, labels: (tf.cast(images, tf.float32) / 255, labels)
