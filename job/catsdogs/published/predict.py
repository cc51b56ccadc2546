"""Cat or dog, for any number of image files, with a published model."""

import json
import math
import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from catsdogs.data.images import NotAnImage, decode
from catsdogs.data.loader import as_input
from catsdogs.results import publish
from catsdogs.runtime import cores
from catsdogs.runtime.errors import BadData, NotFound, printable
from catsdogs.runtime.formatting import percent
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from catsdogs.storage.store import StorageOptions, open_store, read
from catsdogs.training.predictions import predicted_label

BATCH_SIZE = 32
AHEAD = 3
"""Batches that are decoded at once, the one that is next among them."""
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"}
"""What is taken for an image in a folder; a file that is named itself may be called anything."""


class Verdict(NamedTuple):
    image: str
    verdict: str
    dog: float
    """The probability of a dog."""


class Unreadable(NamedTuple):
    image: str
    reason: str


HEAD = "VERDICT  PROBABILITY  IMAGE"


def line_of(verdict: Verdict) -> str:
    """Under HEAD: what the image is called, how probable that is, and its name."""
    probable = percent(verdict.dog if verdict.verdict == "dog" else 1 - verdict.dog)
    return f"{verdict.verdict:<7}  {probable:>11}  {printable(verdict.image)}"


def json_of(one: Verdict | Unreadable) -> str:
    """A line of JSON: image, verdict and dog, its probability, null if the model gives none; or image and reason."""
    facts = one._asdict()
    if isinstance(one, Verdict) and not math.isfinite(one.dog):
        facts["dog"] = None
    return json.dumps(facts)


def predict(
    images: Iterable[str], model: str, storage_options: StorageOptions, interruption: Interruption
) -> Iterator[Verdict | Unreadable]:
    """For each file, and each image in each folder, what the model says or why it could not be asked.

    In the order given, folders by name; a batch is in memory at a time. `model` is a published run, whose model is
    checked against its manifest, or a `.keras` file, which is checked if a manifest lies beside it.
    Raises NotFound, BadData for a model that cannot be used, Interrupted, and what reading the model raises.
    """
    with tempfile.TemporaryDirectory(prefix="catsdogs-") as directory:
        uri, data = _model(model, storage_options)
        file = Path(directory, publish.MODEL)
        volume.write(file, data, durable=False)
        del data
        interruption.check()
        # Imported only now: a model that cannot be had is said at once.
        from catsdogs.training import devices

        devices.start(require_gpu=False)
        from catsdogs.training import evaluation

        loaded = evaluation.load(file, uri)
    probabilities_of = evaluation.probability_of(loaded)
    image_size = loaded.input_shape[1]
    assert image_size is not None, "evaluation.load checks it"
    for names, decoded in _batches(images, image_size):
        interruption.check()
        good = [picture for picture in decoded if not isinstance(picture, str)]
        probabilities = iter(probabilities_of(as_input(np.stack(good))) if good else [])
        for name, picture in zip(names, decoded, strict=True):
            if isinstance(picture, str):
                yield Unreadable(name, picture)
            else:
                dog = next(probabilities)
                yield Verdict(name, predicted_label(dog), dog)


def _model(address: str, storage_options: StorageOptions) -> tuple[str, bytes]:
    """Where the model lies, and its bytes, compared with the manifest of its run; a file of its own may have none."""
    address = address.rstrip("/") or "/"
    is_run = not address.endswith(".keras")
    folder, _, name = (address, "", publish.MODEL) if is_run else address.rpartition("/")
    store = open_store(folder or ("/" if address.startswith("/") else "."), storage_options)
    try:
        entries = {entry.name: entry for entry in publish.manifest(store)[1]}
    except NotFound:
        if is_run:
            raise
        entries = {}
    if name in entries:
        return store.uri(name), publish.contents(store, entries[name])
    if is_run:
        raise BadData(f"{store.uri(name)}: not in the manifest; publish the run anew under another --run-id")
    return store.uri(name), read(store, name)


def _batches(images: Iterable[str], size: int) -> Iterator[tuple[list[str], list[NDArray[np.uint8] | str]]]:
    """Names, and for each its picture, size×size×3, or why there is none; the next batches are decoded meanwhile."""
    pool = ThreadPoolExecutor(cores.usable(), "images")
    ahead: deque[tuple[list[str], list[Future[NDArray[np.uint8] | str]]]] = deque()
    files = _files(images)
    try:
        while batch := list(islice(files, BATCH_SIZE)):
            futures = [pool.submit(_picture, name, reason, size) for name, reason in batch]
            ahead.append(([name for name, _ in batch], futures))
            if len(ahead) == AHEAD:
                names, ready = ahead.popleft()
                yield names, [future.result() for future in ready]
        for names, ready in ahead:
            yield names, [future.result() for future in ready]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _files(images: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Each file that is named, and each image in a folder that is; with a reason, what cannot be one.

    Of a folder hidden files are left out: there are some beside every image that a Mac has packed.
    """
    for image in images:
        if not os.path.isdir(image):
            yield image, None
            continue
        empty = True
        failed: list[OSError] = []
        for folder, folders, names in os.walk(image, onerror=failed.append):
            folders.sort()
            for name in sorted(names):
                if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                    empty = False
                    yield os.path.join(folder, name), None
        yield from ((str(error.filename), error.strerror or str(error)) for error in failed)
        if empty and not failed:
            yield image, "no images in this folder"


def _picture(name: str, reason: str | None, size: int) -> NDArray[np.uint8] | str:
    """size×size×3, or why there is none: `reason` if that is known already."""
    try:
        return reason or decode(Path(name).read_bytes(), (size, size))
    except OSError as error:
        return error.strerror or str(error)
    except NotAnImage as error:
        return str(error)
