import contextlib
import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from catsdogs.data import images, loader
from catsdogs.data.augmentation import Augmentation
from catsdogs.data.loader import Batch, DataLoader, Pixels
from catsdogs.runtime import cores
from catsdogs.runtime.errors import VolumeError

IMAGES, BATCH_SIZE, SEED = 11, 4, 7
ENOUGH = 1 << 30
"""Bytes; more than any test's images fill."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six cats, then five dogs; the n-th of them all is a picture of nothing but the brightness 25 n."""
    folder = tmp_path_factory.mktemp("images")
    found = [folder / ("dogs" if n % 2 else "cats") / f"{n}.jpg" for n in range(IMAGES)]
    found.sort()
    for n, path in enumerate(found):
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (20, 30), 25 * n).save(path, "PNG")
    return found


@pytest.fixture(scope="module")
def generator(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> DataLoader:
    return make(paths, tmp_path_factory.mktemp("scratch"))


def make(
    paths: Sequence[Path],
    scratch: Path,
    *,
    batch_size: int = BATCH_SIZE,
    image_size: int = 6,
    seed: int = SEED,
    shuffled: bool = True,
    max_bytes: int = ENOUGH,
) -> DataLoader:
    return DataLoader.of(
        paths, batch_size=batch_size, image_size=image_size, seed=seed, shuffled=shuffled, scratch=scratch,
        max_bytes=max_bytes,
    )  # fmt: skip


def taken(generator: DataLoader, count: int, epoch: int = 0, step: int = 0) -> list[Batch]:
    """The first so many batches from there on, and the generator closed."""
    running = generator.batches(epoch, step)
    try:
        return list(itertools.islice(running, count))
    finally:
        running.close()


def shown(batch: Batch) -> list[int]:
    """Which images a batch is of."""
    return [round(float(image.mean()) * 255 / 25) for image in batch.images]


def epochs(generator: DataLoader, count: int) -> list[list[int]]:
    """Which images each of the first epochs shows, in order."""
    steps = len(generator)
    found = [shown(batch) for batch in taken(generator, count * steps)]
    return [[image for batch in found[n * steps :][:steps] for image in batch] for n in range(count)]


def batch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_a_batch_is_float32_in_0_to_1_with_binary_labels_in_the_alphabetical_order_of_the_classes(
    paths: list[Path], tmp_path: Path
) -> None:
    white = tmp_path / "dogs" / "white.jpg"
    white.parent.mkdir()
    Image.new("RGB", (8, 8), "white").save(white, "JPEG")
    black = paths[0]
    for order in ([white, black], [black, white]):
        batch = taken(make(order, tmp_path, image_size=150, shuffled=False), 1)[0]
        assert batch.images.dtype == batch.labels.dtype == np.float32
        assert batch.images.shape == (2, 150, 150, 3)
        assert [(image.min(), image.max()) for image in batch.images] == [
            (1, 1) if path is white else (0, 0) for path in order
        ]
        assert list(batch.labels) == [1 if path is white else 0 for path in order]


def test_an_image_keeps_its_label_wherever_the_shuffle_puts_it(generator: DataLoader, paths: list[Path]) -> None:
    for batch in taken(generator, 3 * len(generator)):
        assert [paths[n].parent.name for n in shown(batch)] == ["dogs" if label else "cats" for label in batch.labels]


def test_every_epoch_shows_every_image_once_and_ends_with_a_smaller_batch(generator: DataLoader) -> None:
    assert len(generator) == 3
    assert [len(batch.labels) for batch in taken(generator, 9)] == [4, 4, 3] * 3
    assert [sorted(epoch) for epoch in epochs(generator, 5)] == [list(range(IMAGES))] * 5


def test_the_order_is_a_function_of_seed_and_epoch_alone(
    generator: DataLoader, paths: list[Path], tmp_path: Path
) -> None:
    first = epochs(generator, 4)
    assert epochs(make(paths, tmp_path), 4) == first
    assert epochs(make(paths, tmp_path, batch_size=5), 4) == first
    others = [epochs(make(paths, tmp_path, seed=seed), 4) for seed in (SEED + 1, SEED + 2)]
    orders = [tuple(epoch) for run in (first, *others) for epoch in run]
    assert len(set(orders)) == len(orders), "no two epochs, and no two seeds, show the images in one order"


@given(st.integers(0, 4), st.integers(0, 2), st.integers(1, 8))
@settings(max_examples=25, deadline=None)
def test_a_start_anywhere_goes_on_as_the_start_at_the_beginning_would(
    generator: DataLoader, epoch: int, step: int, count: int
) -> None:
    skipped = epoch * len(generator) + step
    for batch, expected in zip(
        taken(generator, count, epoch, step), taken(generator, skipped + count)[skipped:], strict=True
    ):
        np.testing.assert_array_equal(batch.images, expected.images)
        np.testing.assert_array_equal(batch.labels, expected.labels)


def test_without_shuffling_one_pass_shows_the_images_in_the_order_given(paths: list[Path], tmp_path: Path) -> None:
    generator = make(paths, tmp_path, shuffled=False)
    assert [n for batch in generator.batches() for n in shown(batch)] == list(range(IMAGES))
    assert [shown(batch) for batch in generator.batches(step=2)] == [[8, 9, 10]]
    assert wait_for(lambda: not batch_threads())


@pytest.mark.parametrize("max_bytes", [0, ENOUGH])
@pytest.mark.parametrize("batch_size", [1, 4, IMAGES])
def test_each_image_is_decoded_once_a_run(
    batch_size: int, max_bytes: int, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []

    def decode(data: bytes, *options: Any) -> NDArray[np.uint8]:
        decoded.append(data)
        # Long enough for a batch of the next epoch to ask for the same image meanwhile.
        time.sleep(0.002)
        return images.decode(data, *options)

    monkeypatch.setattr(loader, "decode", decode)
    monkeypatch.setattr(cores, "usable", lambda: 4)
    generator = make(paths, tmp_path, batch_size=batch_size, max_bytes=max_bytes)
    assert [sorted(epoch) for epoch in epochs(generator, 3)] == [list(range(IMAGES))] * 3
    assert sorted(decoded) == sorted(path.read_bytes() for path in paths)


@pytest.mark.parametrize(("most", "at_once"), [(1 << 30, 16), (5 * 4 * 6 * 6 * 3 * 4, 5), (1, 1)])
def test_large_batches_are_not_made_on_all_of_many_cores_at_once(
    most: int, at_once: int, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most so many bytes of them: here of four images of 6×6 each."""
    monkeypatch.setattr(cores, "usable", lambda: 16)
    monkeypatch.setattr(loader, "MAX_AHEAD", most)
    busy, most_busy, lock = 0, 0, threading.Lock()

    def batch(self: DataLoader, *arguments: Any) -> Batch:
        nonlocal busy, most_busy
        with lock:
            busy += 1
            most_busy = max(most_busy, busy)
        time.sleep(0.02)
        with lock:
            busy -= 1
        return made(self, *arguments)

    made = DataLoader.batch
    monkeypatch.setattr(DataLoader, "batch", batch)
    taken(make(paths, tmp_path, batch_size=4), 20)
    assert most_busy == at_once


@pytest.mark.parametrize("spare", [-1, 0])
def test_beyond_the_memory_bound_the_volume_serves_and_nothing_is_left_there(
    spare: int, generator: DataLoader, paths: list[Path], tmp_path: Path
) -> None:
    size = IMAGES * 6 * 6 * 3
    bounded = make(paths, tmp_path / "scratch", max_bytes=size + spare)
    on_the_volume = f"{tmp_path}/scratch" in Path("/proc/self/maps").read_text()
    assert (on_the_volume, bounded.pixels.bytes_in_memory) == ((False, size) if spare >= 0 else (True, 0))
    for batch, expected in zip(taken(bounded, 7), taken(generator, 7), strict=True):
        np.testing.assert_array_equal(batch.images, expected.images)
    assert not list((tmp_path / "scratch").glob("*"))


def test_a_batch_is_the_callers_to_change(generator: DataLoader) -> None:
    for batch in taken(generator, len(generator)):
        batch.images[:] = 0
        batch.labels[:] = 0
    assert [sorted(epoch) for epoch in epochs(generator, 1)] == [list(range(IMAGES))]


def test_a_part_of_a_batch_stays_what_it_is_while_memory_of_others_is_used_again(generator: DataLoader) -> None:
    addresses, kept = set(), []
    with contextlib.closing(generator.batches()) as running:
        for number in range(40):
            images = next(running).images
            addresses.add(images.ctypes.data)
            if number % 10 == 0:
                part = images[1:, ::2].transpose(0, 2, 1, 3)
                kept.append((part, part.copy()))
    assert len(addresses) < 20
    for part, expected in kept:
        np.testing.assert_array_equal(part, expected)


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_a_generator_that_is_closed_early_ends_its_threads(generator: DataLoader) -> None:
    running = generator.batches()
    next(running)
    assert batch_threads()
    running.close()
    assert wait_for(lambda: not batch_threads())


def test_a_file_that_is_gone_and_a_scratch_that_cannot_be_written_are_the_volumes_failures(
    paths: list[Path], tmp_path: Path
) -> None:
    gone = tmp_path / "cats" / "cat.0.jpg"
    with pytest.raises(VolumeError, match=str(gone.parent)):
        taken(make([*paths, gone], tmp_path, shuffled=False), 5)
    (tmp_path / "file").touch()
    with pytest.raises(VolumeError, match=str(tmp_path / "file")):
        Pixels(paths, 6, tmp_path / "file", 0)


def test_augmented_batches_follow_from_seed_epoch_and_step_alone(tmp_path: Path) -> None:
    """Wherever they are begun with; each epoch distorts the images anew, and the kept pixels stay as they are."""
    found = [tmp_path / "cats" / f"{n}.png" for n in range(4)]
    found[0].parent.mkdir()
    noise = np.random.default_rng(0)
    for path in found:
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    plain = make(found, tmp_path, image_size=16, batch_size=2)
    augmented = dataclasses.replace(plain, augmentation=Augmentation(rotation=40, horizontal_flip=True))
    whole, resumed = taken(augmented, 6), taken(augmented, 3, epoch=1, step=1)
    for batch, same in zip(whole[3:], resumed, strict=True):
        assert np.array_equal(batch.images, same.images)
    first, second = (augmented.batch(epoch, 0, order=np.arange(4)).images for epoch in range(2))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, plain.batch(0, 0, order=np.arange(4)).images)
    assert np.array_equal(
        plain.batch(0, 0).images, make(found, tmp_path, image_size=16, batch_size=2).batch(0, 0).images
    )


def test_blended_batches_follow_from_seed_epoch_and_step_alone(tmp_path: Path) -> None:
    """Each image keeps the greater share of itself, and its label tells how great; the kept pixels stay as they are."""
    found = []
    for label, value in (("cats", 0), ("dogs", 255)):
        for number in range(4):
            found.append(tmp_path / label / f"{number}.png")
            found[-1].parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(found[-1])
    plain = make(found, tmp_path, image_size=16, batch_size=8)
    blending = dataclasses.replace(plain, mixup=0.5)
    # Here an image is of the value that is its label.
    epochs = [blending.batch(epoch, 0) for epoch in range(20)]
    for epoch, batch in enumerate(epochs):
        assert batch.images == pytest.approx(np.broadcast_to(batch.labels[:, None, None, None], batch.images.shape))
        assert np.array_equal(batch.labels > 0.5, plain.batch(epoch, 0).labels > 0.5)
        assert np.array_equal(batch.labels, blending.batch(epoch, 0).labels)
    shares = np.concatenate([np.minimum(batch.labels, 1 - batch.labels) for batch in epochs])
    assert 0.3 < shares.max() <= 0.5
    # Half of the images meet one of the other kind; of the smaller shares of a beta(0.5, 0.5) the mean is 0.18.
    assert 0.06 < shares.mean() < 0.13
    assert len({batch.labels.tobytes() for batch in epochs}) == 20
    assert np.array_equal(
        plain.batch(0, 0).images, make(found, tmp_path, image_size=16, batch_size=8).batch(0, 0).images
    )
