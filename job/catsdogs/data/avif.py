"""What an AVIF's own headers claim, read before any decoder sees the file.

A decoder allocates by the sequence headers in the AV1 data, and by the sizes in the container; so both are read. Only
still pictures are: a container with more parts than one needs, or with parts that share bytes, is refused.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from catsdogs.data.headers import TooManyParts, Unsupported

MAX_BOXES = 1_000
"""Of one box, counting those in boxes; and pieces of AV1 data."""
MAX_ITEMS = 256
"""A grid of tiles has as many pictures, and as many of their transparency."""
MAX_TABLE = 1 << 16
"""Bytes of each of the tables of items, of their places, properties and references."""
_TABLES = (b"iinf", b"iloc", b"iref", b"ipma")
_SEQUENCE_HEADER = 1


class Avif(NamedTuple):
    claimed: int
    """Pixels of the largest size that the container names."""
    coded: int
    """Pixels of all pictures in it: of its tiles, and of its transparency."""


def header(data: bytes) -> Avif | None:
    """Return what the headers say; None if a decoder would find no picture. Raises TooManyParts and Unsupported."""
    try:
        boxes = list(_boxes(data, 0, len(data), [0]))
        if any(kind == b"moov" for kind, _, _ in boxes) or data[8:12] == b"avis":
            raise Unsupported("an AVIF of several pictures; save the first as a JPEG")
        metas = [(start, end) for kind, start, end in boxes if kind == b"meta"]
        if len(metas) != 1:
            return None
        return _meta(data, *metas[0])
    except (struct.error, IndexError):
        return None


def _boxes(data: bytes, start: int, end: int, counted: list[int]) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of each box between `start` and `end`. Raises struct.error."""
    while start < end:
        counted[0] += 1
        if counted[0] > MAX_BOXES:
            raise TooManyParts(f"more than {MAX_BOXES:,} boxes")
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1:
            [size] = struct.unpack_from(">Q", data, content)
            content += 8
        elif size == 0:
            size = end - start
        if not content <= start + size <= end:
            raise struct.error
        yield kind, content, start + size
        start += size


def _meta(data: bytes, start: int, end: int) -> Avif:
    counted = [0]
    # A full box: version and flags come first.
    found = list(_boxes(data, start + 4, end, counted))
    properties = [box for kind, first, last in found if kind == b"iprp" for box in _boxes(data, first, last, counted)]
    sizes = [0]
    for kind, first, last in properties:
        if kind == b"ipco":
            for inner, place, _ in _boxes(data, first, last, counted):
                if inner == b"ispe":
                    sizes.append(_product(struct.unpack_from(">II", data, place + 4)))
    for kind, first, last in [*found, *properties]:
        if kind in _TABLES and last - first > MAX_TABLE:
            raise TooManyParts(f"a table of more than {MAX_TABLE:,} bytes")
    idat = next((first for kind, first, _ in found if kind == b"idat"), None)
    locations = [first for kind, first, _ in found if kind == b"iloc"]
    coded = 0
    total = 0
    for place in locations:
        for extents in _items(data, place, idat):
            total += sum(length for _, length in extents)
            if total > len(data):
                raise TooManyParts("parts that share their bytes")
            coded += _coded(b"".join(data[at : at + length] for at, length in extents))
    return Avif(max(sizes), coded)


def _items(data: bytes, place: int, idat: int | None) -> Iterator[list[tuple[int, int]]]:
    """Yield the place and length of each piece of each item, as the table at `place` has them. Raises struct.error."""
    version = data[place]
    sizes, more = struct.unpack_from(">BB", data, place + 4)
    of_offset, of_length, of_base, of_index = sizes >> 4, sizes & 15, more >> 4, more & 15
    place += 6

    def number(size: int) -> int:
        nonlocal place
        if place + size > len(data):
            raise struct.error
        place += size
        return int.from_bytes(data[place - size : place])

    count = number(4 if version == 2 else 2)
    if count > MAX_ITEMS:
        raise TooManyParts(f"more than {MAX_ITEMS} items")
    for _ in range(count):
        number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(of_base)
        if method == 1 and idat is not None:
            base += idat
        elif method:
            raise Unsupported("an AVIF with pictures made of others; save it as a JPEG")
        extents = []
        for _ in range(number(2)):
            if version:
                number(of_index)
            offset, length = base + number(of_offset), number(of_length)
            # A length of 0 is all that follows.
            extents.append((offset, length or max(0, len(data) - offset)))
        yield extents


def _coded(data: bytes) -> int:
    """Return the pixels that the largest of the AV1 sequence headers in an item's data allows; 0 without any.

    What is no AV1 data may seem to have some, and is then counted, too.
    """
    most = place = parts = 0
    while place < len(data):
        parts += 1
        if parts > MAX_BOXES:
            raise TooManyParts(f"more than {MAX_BOXES:,} pieces of AV1 data")
        first = data[place]
        place += 2 if first & 4 else 1
        size = len(data) - place
        if first & 2:
            size, place = _leb128(data, place)
        if first >> 3 & 15 == _SEQUENCE_HEADER:
            most = max(most, _sequence(data[place : place + min(size, 1024)]))
        place += size
    return most


def _leb128(data: bytes, place: int) -> tuple[int, int]:
    """Return a number and where it ends. Raises IndexError."""
    value = 0
    for index in range(8):
        value |= (data[place + index] & 127) << 7 * index
        if data[place + index] < 128:
            return value, place + index + 1
    raise IndexError


def _sequence(data: bytes) -> int:
    """Return width × height that a sequence header allows. Raises Unsupported for what only videos have."""
    bits = iter(f"{int.from_bytes(data):0{8 * len(data)}b}")

    def number(count: int) -> int:
        return int("".join(next(bits, "0") for _ in range(count)), 2)

    number(4)
    reduced = number(1)
    if reduced:
        number(5)
    else:
        # Timing information.
        if number(1):
            raise Unsupported("an AVIF that is part of a video; save it as a JPEG")
        delays = number(1)
        for _ in range(number(5) + 1):
            number(12)
            if number(5) > 7:
                number(1)
            if delays and number(1):
                number(4)
    across, down = number(4) + 1, number(4) + 1
    width, height = number(across) + 1, number(down) + 1
    # Otherwise each frame may have a size of its own, in as many bits.
    return width * height if reduced else 1 << across + down


def _product(sizes: tuple[int, int]) -> int:
    return sizes[0] * sizes[1]
