"""Classifies image files with a published model: cat or dog."""

import json
import math
import os
import stat
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from catsdogs.data import image_formats
from catsdogs.data.budget import MAX_FILE, MAX_THREADS, one_large
from catsdogs.data.images import NotAnImage, decode
from catsdogs.data.loader import as_input
from catsdogs.results import manifest, names
from catsdogs.runtime import cores
from catsdogs.runtime.errors import BadData, NotFound, printable
from catsdogs.runtime.formatting import percent
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import document, volume
from catsdogs.storage.address import open_object, open_store
from catsdogs.storage.store import StorageOptions
from catsdogs.training import model_file
from catsdogs.training.predictions import predicted_label

BATCH_SIZE = 32
AHEAD = 3
"""Batches that are decoded at once, including the next one."""
SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib",
    ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jxl", ".jp2",
}  # fmt: skip
"""A file in a folder that ends so claims to be an image: if it is none, it is reported."""
EXAMPLES = 3
"""Names of what is left out in folders."""


class Prediction(NamedTuple):
    image: str
    label: str
    dog: float
    """The probability of a dog."""


class Unreadable(NamedTuple):
    image: str
    reason: str


_File = tuple[str, str | None]
"""Its name; and a reason if it cannot be an image."""


@dataclass
class Paths:
    """How many paths there are, and the first few."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, path: str) -> None:
        self.count += 1
        if self.count <= EXAMPLES:
            self.examples.append(path)

    def sentence(self, one: str, many: str) -> str:
        more = f" and {self.count - EXAMPLES:,} more" if self.count > EXAMPLES else ""
        examples = ", ".join(map(printable, self.examples))
        return f"{self.count:,} {one if self.count == 1 else many}: {examples}{more}"


@dataclass
class LeftOut:
    """What `predict` finds in folders and does not try to decode."""

    others: Paths = field(default_factory=Paths)
    """Files that are no images by their first bytes, and do not claim to be."""
    hidden: Paths = field(default_factory=Paths)
    """Files and folders whose names begin with a dot: archives made on a Mac have one beside every image."""
    links: Paths = field(default_factory=Paths)
    """Links to folders, which could lead in circles."""

    def sentences(self) -> list[str]:
        """Return a line for each kind that there is."""
        lines = [
            (self.others, "file is not an image", "files are not images"),
            (self.hidden, "hidden file or folder is left out", "hidden files and folders are left out"),
            (self.links, "link to a folder is not followed", "links to folders are not followed"),
        ]
        return [paths.sentence(one, many) for paths, one, many in lines if paths.count]


HEAD = "VERDICT  PROBABILITY  IMAGE"


def line_of(prediction: Prediction) -> str:
    """Return the line under HEAD: label, its probability, image."""
    probability = percent(prediction.dog if prediction.label == "dog" else 1 - prediction.dog)
    return f"{prediction.label:<7}  {probability:>11}  {printable(prediction.image)}"


def json_of(result: Prediction | Unreadable) -> str:
    """Return a line of JSON: image, verdict and dog, which is null unless the probability is a number; or image and
    reason."""
    if isinstance(result, Unreadable):
        return json.dumps({"image": result.image, "reason": result.reason})
    dog = result.dog if math.isfinite(result.dog) else None
    return json.dumps({"image": result.image, "verdict": result.label, "dog": dog})


def predict(
    images: Sequence[str], model: str, storage_options: StorageOptions, interruption: Interruption, left_out: LeftOut
) -> Iterator[Prediction | Unreadable]:
    """Yield a result for each file, and for each image in each folder, in the order given, folders by name.

    What else is in the folders is counted in `left_out`. One batch is in memory at a time. `model` is a published run,
    whose model is compared with its manifest, or a `.keras` file, which is compared with the manifest beside it if
    there is one. Raises NotFound if none of the images exists, BadData for a model that cannot be used, Interrupted,
    and what reading the model raises.
    """
    if missing := _missing(images):
        raise NotFound(missing)
    with tempfile.TemporaryDirectory(prefix="catsdogs-") as directory:
        uri, data = _model(model, storage_options)
        file = Path(directory, names.MODEL)
        volume.write(file, data, durable=False)
        del data
        inspected = model_file.inspect(file, uri)
        interruption.check()
        # Imported only now, so that a missing model is reported at once.
        from catsdogs.training import devices

        devices.start(require_gpu=False)
        from catsdogs.training import evaluation

        loaded = evaluation.load(inspected)
    probabilities_of = evaluation.probability_of(loaded)
    image_size = loaded.input_shape[1]
    assert image_size is not None, "evaluation.load checks it"
    for files, decoded in _batches(_files(images, left_out, interruption), image_size):
        interruption.check()
        readable = [pixels for pixels in decoded if not isinstance(pixels, str)]
        probabilities = iter(probabilities_of(as_input(np.stack(readable))) if readable else [])
        for name, pixels in zip(files, decoded, strict=True):
            if isinstance(pixels, str):
                yield Unreadable(name, pixels)
            else:
                dog = next(probabilities)
                yield Prediction(name, predicted_label(dog), dog)


def _missing(images: Sequence[str]) -> str | None:
    """Return an error if no image or folder of these exists."""
    if any(map(os.path.lexists, images)):
        return None
    others = f" (and {len(images) - 1} more)" if images[1:] else ""
    return f"{images[0]}: no such file or folder{others}; check the path"


def _model(address: str, storage_options: StorageOptions) -> tuple[str, bytes]:
    """Return the model's address and its bytes, compared with its run's manifest. A single file needs none."""
    address = address.rstrip("/") or "/"
    is_run = not address.endswith(".keras")
    if is_run:
        store, name = open_store(address, storage_options), names.MODEL
    else:
        store, name = open_object(address, storage_options)
    try:
        entries = manifest.load(store).entries
    except NotFound:
        if is_run:
            raise
        entries = {}
    if name in entries:
        return store.uri(name), manifest.contents(store, entries[name], model_file.MAX_SIZE)
    if is_run:
        raise BadData(f"{store.uri(name)}: not in the manifest; publish the run again under another --run-id")
    try:
        return store.uri(name), document.read_object(store, name, model_file.MAX_SIZE)
    except ValueError as reason:
        raise BadData(f"{store.uri(name)}: no model that can be used: {reason}") from None


def _batches(files: Iterator[_File], size: int) -> Iterator[tuple[list[str], list[NDArray[np.uint8] | str]]]:
    """Yield names, and for each its pixels, size×size×3, or why there are none. The next batches are decoded ahead."""
    pool = ThreadPoolExecutor(min(MAX_THREADS, cores.usable()), "images")
    ahead: deque[tuple[list[str], list[Future[NDArray[np.uint8] | str]]]] = deque()
    try:
        while batch := list(islice(files, BATCH_SIZE)):
            futures = [pool.submit(_pixels, name, reason, size) for name, reason in batch]
            ahead.append(([name for name, _ in batch], futures))
            if len(ahead) == AHEAD:
                batch_names, ready = ahead.popleft()
                yield batch_names, [future.result() for future in ready]
        for batch_names, ready in ahead:
            yield batch_names, [future.result() for future in ready]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _files(images: Iterable[str], left_out: LeftOut, interruption: Interruption) -> Iterator[_File]:
    """Yield each file that is named, and each image in each folder that is.

    In folders, the first bytes of a file decide, or its suffix. Raises Interrupted.
    """
    for image in images:
        if not os.path.isdir(image):
            yield image, None
            continue
        empty = True
        failed: list[OSError] = []
        for folder, folders, entries in os.walk(image, onerror=failed.append):
            for name in sorted(folders):
                path = os.path.join(folder, name)
                if name.startswith(".") or os.path.islink(path):
                    (left_out.hidden if name.startswith(".") else left_out.links).add(path)
                    folders.remove(name)
            folders.sort()
            for name in sorted(entries):
                interruption.check()
                path = os.path.join(folder, name)
                if name.startswith("."):
                    left_out.hidden.add(path)
                    continue
                reason: str | None = None
                try:
                    claims = _claims_to_be_an_image(path)
                except OSError as error:
                    claims, reason = True, _reason(error)
                if claims:
                    empty = False
                    yield path, reason
                else:
                    left_out.others.add(path)
        yield from ((str(error.filename), _reason(error)) for error in failed)
        if empty and not failed:
            yield image, "no images in this folder"


def _claims_to_be_an_image(path: str) -> bool:
    """Return whether the file begins like an image, or has the suffix of one. Raises OSError."""
    # A pipe could be waited for forever, and a device never ends.
    if not stat.S_ISREG(os.stat(path).st_mode):
        return False
    if Path(path).suffix.lower() in SUFFIXES:
        return True
    with open(path, "rb") as file:
        return image_formats.kind(file.read(image_formats.LENGTH)) is not None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _pixels(name: str, reason: str | None, size: int) -> NDArray[np.uint8] | str:
    """Return the image's pixels, size×size×3, or why there are none: `reason` if it is known already."""
    try:
        return reason or _decoded(name, size)
    except OSError as error:
        return _reason(error)
    except NotAnImage as error:
        return str(error)


def _decoded(name: str, size: int) -> NDArray[np.uint8]:
    """Return the pixels of the file, size×size×3. Raises NotAnImage and OSError."""
    with open(name, "rb") as file:
        length = os.fstat(file.fileno()).st_size
        with one_large(length):
            # A device or pipe has no length; a file may have another one by now.
            data = file.read(min(length or MAX_FILE, MAX_FILE) + 1)
            if len(data) > MAX_FILE:
                raise NotAnImage(f"{max(length, len(data)):,} bytes, more than {MAX_FILE:,}")
            return decode(data, (size, size), more_formats=True)
