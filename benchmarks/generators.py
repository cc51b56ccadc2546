"""The generators alone, against those that Keras and tf.data offer; no model takes part."""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.material import BOOK, Material
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
"""Images a second that a fast GPU would take."""

Pass = Callable[[], Any]
"""Yields every batch of one pass over the images."""


def rows(material: Material, repeats: int) -> Iterator[Row]:
    small = material.images(material.plain, "small", BOOK) / "train"
    count = 2 * BOOK.train
    first = in_child(first_passes, small, BATCH, repeats)
    yield from _against("First pass, 200×200", first, count, (KERAS, DATASET))
    if material.original:
        large = material.images(material.original, "large", Counts(300, 1, 1)) / "train"
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
        "; ".join(f"{name} {_rate(found, count)}" for name, found in samples.items()),
    )
    best = min(others, key=lambda name: wall(samples[name]))
    faster, cheaper = 1 / ratio(samples, OURS, best), 1 / ratio(samples, OURS, best, cpu)
    yield Row(
        f"{what}: ours, against {best}", f"{faster:.2f} × ({cheaper:.2f} in CPU)", f"≥ {least:g} ×", faster >= least
    )


def _rate(samples: list[Sample], count: int) -> str:
    return f"{count / wall(samples):,.0f} ({count / cpu(samples):,.0f})"


def first_passes(directory: Path, batch: int, repeats: int) -> Samples:
    """The first pass of new generators, each time."""
    makers, ways = _makers(directory, batch), (OURS, KERAS, DATASET)
    return interleaved({name: partial(_sampled, makers[name], 1, 0) for name in ways}, repeats)


def later_passes(directory: Path, batch: int, repeats: int, names: tuple[str, ...]) -> Samples:
    """LATER passes of generators that have made one already."""
    makers = _makers(directory, batch)
    return interleaved({name: partial(_sampled, makers[name], LATER, 1) for name in names}, repeats)


def augmenting_passes(directory: Path, repeats: int) -> Samples:
    """A second pass that distorts each image in the same ways."""
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
    """Share of its time that a consumer of CONSUMER images/s waits, batches over 1 ms late, and batches; and of as many
    sleeps, with nothing else at work in this process, those that end over 1 ms late."""
    generator = _generator(directory, LARGE)
    batches = generator.batches()
    for _ in range(len(generator)):
        next(batches)
    waits, period = [], LARGE / CONSUMER
    for _ in range(30 * len(generator)):
        began = time.monotonic()
        batch = next(batches)
        waits.append(time.monotonic() - began)
        time.sleep(period * len(batch.labels) / LARGE)
        del batch
    batches.close()
    # The first pass went by without a pause: so many batches were then still being made, and none lay ready.
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


def _generator(directory: Path, batch: int, augmentation: Augmentation | None = None) -> DataLoader:
    return DataLoader.of(
        sorted(directory.glob("*/*.jpg")), batch_size=batch, image_size=SIZE, seed=0, shuffled=True,
        scratch=directory.parent, most_bytes=int(memory.SHARE_FOR_IMAGES * memory.limit()),
        augmentation=augmentation,
    )  # fmt: skip


def _ours(directory: Path, batch: int, augmentation: Augmentation | None = None) -> Pass:
    generator = _generator(directory, batch, augmentation)
    batches = generator.batches()
    return lambda: (next(batches) for _ in range(len(generator)))


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
