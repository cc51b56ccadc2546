"""Archives of noise, whose images are large enough for faults to happen within them, and places in them."""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

PER_CLASS = 24


class Place(NamedTuple):
    """Where a member's data lie in the zip: start ≤ i < stop."""

    start: int
    stop: int

    @property
    def middle(self) -> int:
        return (self.start + self.stop) // 2


def noise(seed: int, side: int = 300) -> bytes:
    """A JPEG of about 90 kB, always the same for one seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def names(per_class: int = PER_CLASS) -> list[str]:
    return [f"train/{label}.{number}.jpg" for label in ("cat", "dog") for number in range(per_class)]


def write_photos(path: Path, per_class: int = PER_CLASS) -> None:
    """PER_CLASS cats and as many dogs, stored one after the other, so that images are fetched one by one."""
    with zipfile.ZipFile(path, "w") as archive:
        for seed, name in enumerate(names(per_class)):
            archive.writestr(zipfile.ZipInfo(name), noise(seed))


def place(path: Path, name: str) -> Place:
    """Of a member of the zip."""
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(name)
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        header = file.read(30)
    start = entry.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return Place(start, start + entry.compress_size)


def directory(path: Path) -> Place:
    """Of the zip's central directory, up to the end of the file."""
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    return Place(start, path.stat().st_size)
