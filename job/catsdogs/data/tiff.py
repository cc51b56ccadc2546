"""What a TIFF's own headers claim, read before any decoder sees the file, and a copy without what no decoder needs.

Of several pages, the first counts. The copy has no metadata, whose tags may each point to all of the file, no
orientation, for which Pillow would turn a second image of full size, and no further pages.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from catsdogs.data.headers import MAX_PARTS, TooManyParts, Unsupported

COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946})
"""None, LZW, Deflate (both numbers) and PackBits. Each other, such as JPEG, has a decoder of its own."""

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS, _COUNTS = 273, 274, 277, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _FORMAT, _DNG = 322, 323, 324, 325, 339, 50706
_UNSIGNED = 1
# With fill order, planar configuration, predictor, palette, and extra samples.
_KEPT = {
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, 266, _OFFSETS, _SAMPLES, _ROWS, _COUNTS, 284, 317, 320,
    _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, 338, _FORMAT,
}  # fmt: skip
_MANY = {_OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS}
_MAX_VALUES = 3 << 8
"""Of any other tag: a palette of 8 bits has the most."""
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}


class Tiff(NamedTuple):
    width: int
    height: int
    orientation: int
    """As in EXIF."""
    piece: int
    """Bytes that are inflated at once: of a strip or tile; of a line if they are not compressed."""
    bare: tuple[bytes, bytes]
    """The header and the directory of the copy, for `copy`."""


class _Layout(NamedTuple):
    """Of the numbers in a file."""

    order: str
    entries: str
    """The number of the entries of a directory."""
    entry: str
    """Tag, type, number of values, values or offset."""
    offset: str


def header(data: bytes) -> Tiff | None:
    """Return what the first directory says; None if there is none. Raises TooManyParts and Unsupported."""
    layout = _layout(data)
    if layout is None:
        return None
    try:
        entries = dict(_entries(data, layout))
        read = {tag: _values(data, layout, entries[tag]) for tag in entries if tag in {*_KEPT, _SUBFILE, _ORIENTATION}}
    except struct.error:
        return None

    def first(tag: int, default: int = 0) -> int:
        return read[tag][0] if read.get(tag) else default

    if first(_SUBFILE) & 1 or _DNG in entries:
        raise Unsupported("a camera's raw photo; save it as a JPEG")
    if first(_COMPRESSION, 1) not in COMPRESSIONS:
        raise Unsupported(f"a TIFF of compression {first(_COMPRESSION)}; save it with LZW, or as a JPEG")
    # Pillow keeps their values, and cuts off those outside of 0 to 255.
    if max(read.get(_BITS) or (1,)) > 16 or first(_FORMAT, _UNSIGNED) != _UNSIGNED:
        raise Unsupported("a TIFF whose samples are not natural numbers of up to 16 bits; save it as a JPEG or PNG")
    width, height = first(_WIDTH), first(_HEIGHT)
    bits = max(read.get(_BITS) or (1,)) * max(first(_SAMPLES, 1), len(read.get(_BITS, ())))
    columns, rows = width, min(height, first(_ROWS, height))
    if _TILE_WIDTH in read or _TILE_HEIGHT in read:
        columns, rows = first(_TILE_WIDTH), first(_TILE_HEIGHT)
    if first(_COMPRESSION, 1) == 1:
        rows = 1
    bare = _directory(data, layout, {tag: entries[tag] for tag in read if read[tag] and tag in _KEPT})
    return Tiff(width, height, first(_ORIENTATION, 1), -(-columns * bits // 8) * rows, bare)


def copy(data: bytes, tiff: Tiff) -> bytes:
    """Return the file that a decoder sees."""
    start, directory = tiff.bare
    return b"".join((start, memoryview(data)[len(start) :], b"\0" * (len(data) % 2), directory))


def _layout(data: bytes) -> _Layout | None:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return None
    match struct.unpack_from(f"{order}H", data, 2)[0]:
        case 42:
            return _Layout(order, f"{order}H", f"{order}HHI4s", f"{order}I")
        case 43 if data[4:8] == struct.pack(f"{order}HH", 8, 0):
            return _Layout(order, f"{order}Q", f"{order}HHQ8s", f"{order}Q")
    return None


_Entry = tuple[int, int, int, bytes]


def _entries(data: bytes, layout: _Layout) -> Iterator[tuple[int, _Entry]]:
    """Yield tag → entry, in descending order, so that the first of one tag counts. Raises struct.error."""
    [place] = struct.unpack_from(layout.offset, data, struct.calcsize(layout.offset))
    if place >= len(data):
        raise struct.error
    [count] = struct.unpack_from(layout.entries, data, place)
    if count > MAX_PARTS:
        raise TooManyParts(f"more than {MAX_PARTS:,} tags")
    place += struct.calcsize(layout.entries)
    size = struct.calcsize(layout.entry)
    for number in reversed(range(count)):
        entry = struct.unpack_from(layout.entry, data, place + number * size)
        yield entry[0], entry


def _values(data: bytes, layout: _Layout, entry: _Entry) -> tuple[int, ...]:
    """Return an entry's values; none unless they are natural numbers. Raises struct.error and TooManyParts."""
    tag, form, count, here = entry
    if form not in _TYPES:
        return ()
    if tag in _MANY and count > MAX_PARTS:
        raise TooManyParts(f"more than {MAX_PARTS:,} strips or tiles; save it with larger ones, or as a JPEG")
    if tag not in _MANY and count > _MAX_VALUES:
        raise TooManyParts(f"more than {_MAX_VALUES:,} values of one tag; save it as a JPEG")
    numbers = f"{layout.order}{count}{_TYPES[form]}"
    if struct.calcsize(numbers) <= len(here):
        return struct.unpack_from(numbers, here)
    [place] = struct.unpack(layout.offset, here)
    if place >= len(data):
        raise struct.error
    return struct.unpack_from(numbers, data, place)


def _directory(data: bytes, layout: _Layout, entries: dict[int, _Entry]) -> tuple[bytes, bytes]:
    """Return a header that points behind the file's data, and a directory of these entries to stand there."""
    place = len(data) + len(data) % 2
    width = struct.calcsize(layout.offset)
    start = data[:width] + struct.pack(layout.offset, place)
    packed = b"".join(struct.pack(layout.entry, *entries[tag]) for tag in sorted(entries))
    return start, struct.pack(layout.entries, len(entries)) + packed + bytes(width)
