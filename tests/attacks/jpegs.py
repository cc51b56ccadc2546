"""JPEGs of every kind of frame, most of which no library at hand writes."""

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

KINDS = (0, 1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15)
"""The numbers n of the frames SOFn."""


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours, other ones for another seed."""
    few = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(few).resize((width, height), Image.Resampling.BILINEAR)


def jpeg(picture: Image.Image, turn: int | None = None, **options: Any) -> bytes:
    """With an EXIF orientation, if `turn` is given."""
    if turn is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = turn
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">2BH", 0xFF, marker, 2 + len(body)) + body


def frame_at(data: bytes) -> int:
    """Where the marker of the frame of a JPEG that Pillow wrote is."""
    return max(data.find(b"\xff\xc0\x00"), data.find(b"\xff\xc2\x00"))


def of_kind(kind: int, data: bytes, precision: int = 8) -> bytes:
    """A baseline or progressive JPEG that claims to be SOF`kind`, of samples of other bits."""
    place = frame_at(data)
    return data[: place + 1] + bytes([0xC0 + kind, *data[place + 2 : place + 4], precision]) + data[place + 5 :]


def lossless(pixels: NDArray[np.uint8]) -> bytes:
    """A real one (SOF3): each sample is the one to its left, or above in the first column, and the difference.

    `pixels` are height×width, or height×width×3 in RGB.
    """
    height, width = pixels.shape[:2]
    samples = pixels.reshape(height, width, -1).astype(int)
    before = np.empty_like(samples)
    before[:, 1:] = samples[:, :-1]
    before[1:, 0] = samples[:-1, 0]
    before[0, 0] = 128
    codes = {int(value): _code(int(value)) for value in np.unique(samples - before)}
    bits = "".join(codes[value] for value in (samples - before).ravel().tolist())
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\x00")
    names = b"RGB" if samples.shape[2] == 3 else b"\1"
    frame = struct.pack(">BHHB", 8, height, width, len(names)) + b"".join(bytes([name, 0x11, 0]) for name in names)
    # Seventeen categories, each with a code of five bits.
    table = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    start = bytes([len(names), *(byte for name in names for byte in (name, 0)), 1, 0, 0])
    parts = segment(0xC3, frame), segment(0xC4, table), segment(0xDA, start)
    return b"\xff\xd8" + b"".join(parts) + scan + b"\xff\xd9"


def _code(difference: int) -> str:
    """The category in five bits, then as many bits as it says."""
    category = abs(difference).bit_length()
    value = difference if difference > 0 else difference + (1 << category) - 1
    return f"{category:05b}" + (f"{value:0{category}b}" if category else "")
