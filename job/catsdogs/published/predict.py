"""Classifies image files with a published model: cat or dog."""

import json
import math
import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from catsdogs.data.images import NotAnImage, decode
from catsdogs.data.loader import as_input
from catsdogs.results import manifest, names
from catsdogs.runtime import cores
from catsdogs.runtime.errors import BadData, NotFound, printable
from catsdogs.runtime.formatting import percent
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from catsdogs.storage.address import open_object, open_store
from catsdogs.storage.store import StorageOptions, read
from catsdogs.training.predictions import predicted_label

BATCH_SIZE = 32
AHEAD = 3
"""Batches that are decoded at once, including the next one."""
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"}
"""Of the images in a folder. A file that is named itself may have any suffix."""


class Prediction(NamedTuple):
    image: str
    label: str
    dog: float
    """The probability of a dog."""


class Unreadable(NamedTuple):
    image: str
    reason: str


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
    images: Sequence[str], model: str, storage_options: StorageOptions, interruption: Interruption
) -> Iterator[Prediction | Unreadable]:
    """Yield a result for each file, and for each image in each folder, in the order given, folders by name.

    One batch is in memory at a time. `model` is a published run, whose model is compared with its manifest, or a
    `.keras` file, which is compared with the manifest beside it if there is one.
    Raises NotFound if none of the images exists, BadData for a model that cannot be used, Interrupted, and what reading
    the model raises.
    """
    if missing := _missing(images):
        raise NotFound(missing)
    with tempfile.TemporaryDirectory(prefix="catsdogs-") as directory:
        uri, data = _model(model, storage_options)
        file = Path(directory, names.MODEL)
        volume.write(file, data, durable=False)
        del data
        interruption.check()
        # Imported only now, so that a missing model is reported at once.
        from catsdogs.training import devices

        devices.start(require_gpu=False)
        from catsdogs.training import evaluation

        loaded = evaluation.load(file, uri)
    probabilities_of = evaluation.probability_of(loaded)
    image_size = loaded.input_shape[1]
    assert image_size is not None, "evaluation.load checks it"
    for files, decoded in _batches(images, image_size):
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
        return store.uri(name), manifest.contents(store, entries[name], max_bytes=None)
    if is_run:
        raise BadData(f"{store.uri(name)}: not in the manifest; publish the run again under another --run-id")
    return store.uri(name), read(store, name)


def _batches(images: Iterable[str], size: int) -> Iterator[tuple[list[str], list[NDArray[np.uint8] | str]]]:
    """Yield names, and for each its pixels, size×size×3, or why there are none. The next batches are decoded ahead."""
    pool = ThreadPoolExecutor(cores.usable(), "images")
    ahead: deque[tuple[list[str], list[Future[NDArray[np.uint8] | str]]]] = deque()
    files = _files(images)
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


def _files(images: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Yield each file that is named, and each image in each folder that is; a reason with what cannot be an image.

    Hidden files in folders are skipped: archives made on a Mac have one beside every image.
    """
    for image in images:
        if not os.path.isdir(image):
            yield image, None
            continue
        empty = True
        failed: list[OSError] = []
        for folder, folders, entries in os.walk(image, onerror=failed.append):
            folders.sort()
            for name in sorted(entries):
                if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                    empty = False
                    yield os.path.join(folder, name), None
        yield from ((str(error.filename), error.strerror or str(error)) for error in failed)
        if empty and not failed:
            yield image, "no images in this folder"


def _pixels(name: str, reason: str | None, size: int) -> NDArray[np.uint8] | str:
    """Return the image's pixels, size×size×3, or why there are none: `reason` if it is known already."""
    try:
        return reason or decode(Path(name).read_bytes(), (size, size))
    except OSError as error:
        return error.strerror or str(error)
    except NotAnImage as error:
        return str(error)
