"""The data loader: image directories → endless, shuffled, reproducible batches.

Batch k of epoch e is a function of (seed, e, k) alone, so it can be made in any thread, at any time, after any history.
The next few batches are made while the current one trains, and a resumed run continues with the very batch that the
interrupted one would have had.

Several workers have the same batches; each makes the part with the images of its own shard. The parts differ in size,
because a batch is drawn from all images, as for one worker, while a worker's images are always the same. Equal parts
would need another order, or every image on every worker. docs/scale.md has the cost: how much larger the largest part
is than the mean.
"""

import math
import weakref
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from catsdogs.data.augmentation import Augmentation
from catsdogs.data.images import NotAnImage, decode
from catsdogs.runtime import cores
from catsdogs.runtime.errors import VolumeError
from catsdogs.storage import volume
from catsdogs.storage.volume import AnyPath

MAX_AHEAD = 1 << 30
"""Bytes of batches made at once, unless one batch is larger: with large batches, many cores would fill the memory."""


class Batch(NamedTuple):
    images: NDArray[np.float32]
    """N×height×width×3, values in [0, 1]."""
    labels: NDArray[np.float32]
    """N class indices, in alphabetical order: 0 cat, 1 dog; a value in between for a blend of both."""


def as_input(
    pixels: NDArray[np.uint8], into: NDArray[np.float32] | None = None, chosen: NDArray[np.intp] | None = None
) -> NDArray[np.float32]:
    """Return the input of a model: the images, or those at the indices `chosen`, scaled to [0, 1].

    Training and everything that uses a model afterwards call it. The result is `into`, if given, else a new array.
    """
    count = len(pixels) if chosen is None else len(chosen)
    scaled = np.empty((count, *pixels.shape[1:]), np.float32) if into is None else into
    # A few images at a time, in two steps, stay in the processor's cache: it takes a third less time.
    for start in range(0, count, 4):
        few = slice(start, start + 4)
        part = scaled[few]
        part[...] = pixels[few if chosen is None else chosen[few]]
        part *= np.float32(1 / 255)
    return scaled


class Buffers:
    """Arrays whose memory is reused once nobody holds them: getting new memory takes longer than filling it."""

    def __init__(self) -> None:
        # As many as one loader has under way at once.
        self._spare: deque[NDArray[np.float32]] = deque(maxlen=cores.usable() + 2)

    def lend(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return an uninitialized array. Thread-safe."""
        count = math.prod(shape)
        try:
            memory = self._spare.pop()
        except IndexError:
            memory = np.empty(0, np.float32)
        if memory.size < count:
            memory = np.empty(count, np.float32)
        # The base of a NumPy view is the first array that is not itself a view of an array. With a memoryview in
        # between, a part of a batch keeps `array` alive, not only `memory`.
        array = np.frombuffer(memory.data, np.float32, count)
        weakref.finalize(array, self._spare.append, memory).atexit = False
        return array.reshape(shape)


class Pixels:
    """The decoded, resized images of one split, each decoded once, on first use. Thread-safe.

    They are kept as uint8: in memory if they fit in `max_bytes`, else in an unnamed file in `scratch`, of which the
    kernel caches as much as fits in free memory.
    """

    def __init__(self, paths: Sequence[AnyPath], image_size: int, scratch: AnyPath, max_bytes: int):
        self.paths = paths
        self.size = (image_size, image_size)
        shape = (len(paths), *self.size, 3)
        size = int(np.prod(shape))
        self.bytes_in_memory = size if size <= max_bytes else 0
        self._have = np.zeros(len(paths), bool)
        # Fewer locks than images: two images that share one wait for each other only for a moment.
        self._locks = [Lock() for _ in range(64)]
        if self.bytes_in_memory:
            self._pixels: NDArray[np.uint8] = np.empty(shape, np.uint8)
        else:
            with volume.failures(scratch), volume.unnamed_file(scratch, size) as file:
                self._pixels = np.asarray(np.memmap(file, np.uint8, "r+", shape=shape))

    def __len__(self) -> int:
        return len(self.paths)

    def having(self, indices: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return all images, N×height×width×3, with those at these indices decoded. Raises VolumeError."""
        for index in indices[~self._have[indices]]:
            # At the end of an epoch, a batch of the next one may need the same image at the same time.
            with self._locks[index % len(self._locks)]:
                if self._have[index]:
                    continue
                with volume.failures(self.paths[index]):
                    data = volume.contents(self.paths[index])
                try:
                    decode(data, self.size, self._pixels[index])
                except NotAnImage as reason:
                    raise VolumeError(
                        f"{self.paths[index]}: damaged since it was checked ({reason}); run again"
                    ) from None
                # Only now, so that no other thread uses a half decoded image.
                self._have[index] = True
        return self._pixels


@dataclass(frozen=True)
class DataLoader:
    """Batches of one split: shuffled and endless for training, in order and a single pass otherwise.

    `len()` is the number of batches in an epoch (steps_per_epoch, validation_steps). If the batch size does not divide
    the number of images, the last batch of an epoch is smaller, so each image comes once an epoch.
    """

    pixels: Pixels
    labels: NDArray[np.float32]
    batch_size: int
    seed: int
    shuffled: bool
    augmentation: Augmentation | None = None
    mixup: float = 0.0
    """Blend each image with another of its batch, in shares from a beta distribution with this parameter."""
    places: NDArray[np.intp] | None = None
    """With several workers: the index of each image of the split in `pixels` and `labels`, or -1 if another has it."""
    buffers: Buffers = field(default_factory=Buffers, compare=False, repr=False)

    @classmethod
    def of(
        cls, paths: Sequence[AnyPath], *, batch_size: int, image_size: int, seed: int, shuffled: bool,
        scratch: AnyPath, max_bytes: int, augmentation: Augmentation | None = None, mixup: float = 0.0,
        own: Sequence[bool] | None = None,
    ) -> "DataLoader":  # fmt: skip
        """Return a loader of image files whose parent directories are their classes, as in SPLIT/train/cats/cat.0.jpg.

        With several workers, `own` tells for each file whether it is this worker's.
        """
        classes = sorted({path.parent.name for path in paths})
        places = None
        if own is not None:
            places = np.where(own, np.cumsum(own) - 1, -1)
            paths = [path for path, is_own in zip(paths, own, strict=True) if is_own]
        labels = np.array([classes.index(path.parent.name) for path in paths], np.float32)
        pixels = Pixels(paths, image_size, scratch, max_bytes)
        return cls(pixels, labels, batch_size, seed, shuffled, augmentation, mixup, places)

    @property
    def images(self) -> int:
        """The number of images, over all workers."""
        return len(self.pixels) if self.places is None else len(self.places)

    def __len__(self) -> int:
        return -(-self.images // self.batch_size)

    def order(self, epoch: int) -> NDArray[np.intp]:
        """Return the indices of the images in the order of this epoch, counted from 0."""
        if not self.shuffled:
            return np.arange(self.images)
        return np.random.default_rng([self.seed, epoch]).permutation(self.images)

    def batch(self, epoch: int, step: int, order: NDArray[np.intp] | None = None) -> Batch:
        """Return batch `step` of `epoch`, both counted from 0, or this worker's part of it, which may be empty.

        `order` is that of the epoch, and saves computing it again.
        """
        indices = (self.order(epoch) if order is None else order)[step * self.batch_size :][: self.batch_size]
        if self.places is not None:
            indices = indices[self.places[indices] >= 0]
        held = indices if self.places is None else self.places[indices]
        pixels = self.pixels.having(held)
        chosen: NDArray[np.intp] | None = held
        if self.augmentation is not None:
            size = self.augmentation.scaled(pixels.shape[1])
            distorted = np.empty((len(held), size, size, 3), np.uint8)
            for image, place, index in zip(distorted, held, indices, strict=True):
                image[...] = self.augmentation.applied(pixels[place], self.seed, epoch, int(index))
            pixels, chosen = distorted, None
        into = self.buffers.lend((len(held), *pixels.shape[1:]))
        batch = Batch(as_input(pixels, into, chosen), self.labels[held])
        return self._blended(batch, epoch, step) if self.mixup else batch

    def _blended(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Return each image with a smaller share of another one, or of itself, and their labels in the same shares.

        Each worker blends its own part only.
        """
        random = np.random.default_rng([self.seed, epoch, step, 1])
        others = random.permutation(len(batch.labels))
        share = random.beta(self.mixup, self.mixup, len(others)).astype(np.float32)
        share = np.minimum(share, 1 - share)

        def blend(values: NDArray[np.float32]) -> NDArray[np.float32]:
            shares = share.reshape(-1, *[1] * (values.ndim - 1))
            return values + shares * (values[others] - values)

        return Batch(blend(batch.images), blend(batch.labels))

    def batches(self, epoch: int = 0, step: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches from that one on: endlessly if shuffled, else to the end of the epoch. Works ahead."""
        threads = self._threads()
        pool = ThreadPoolExecutor(threads, "batches")
        ahead: deque[Future[Batch]] = deque()
        try:
            for upcoming in self._upcoming(epoch, step):
                ahead.append(pool.submit(self.batch, *upcoming))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _threads(self) -> int:
        """Return the number of threads. Call it once: `cores.usable` reads files, which yields the interpreter."""
        own = self.batch_size * len(self.pixels) // self.images  # of each batch, on average
        size = own * math.prod(self.pixels.size) * 3 * np.dtype(np.float32).itemsize
        return max(1, min(cores.usable(), MAX_AHEAD // max(1, size)))

    def _upcoming(self, epoch: int, step: int) -> Iterator[tuple[int, int, NDArray[np.intp]]]:
        while True:
            order = self.order(epoch)
            for number in range(step, len(self)):
                yield epoch, number, order
            if not self.shuffled:
                return
            epoch, step = epoch + 1, 0
