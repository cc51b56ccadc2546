"""What an image file's own headers claim, read before any decoder sees the file.

Decoders allocate, and some of them write, by these claims; here nothing is allocated by them. The markers of a JPEG are
found as libjpeg finds them, so that both read the same frame.
"""

import operator
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

MAX_PARTS = 10_000
"""Segments, chunks or extensions of one file, other than those with pixels: Pillow keeps an object of 150 bytes or more
for each, and a file has room for millions. A colour profile has 255 at most."""
MAX_COMMENTS = 1 << 20
"""Bytes of a GIF's extensions: Pillow copies what it has of a comment for every 255 bytes more."""
MAX_SCANS = 100
"""Of one JPEG. Each visits every block of the image, and takes a few bytes. Encoders write ten or so."""

DCT = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
"""The frames that are coded in blocks of 8×8 (SOF0, 1, 2, 9, 10): those that libjpeg can scale while it decodes."""
PROGRESSIVE = frozenset({0xC2, 0xCA})
ARITHMETIC = frozenset({0xC9, 0xCA})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_MARKER = re.compile(rb"\xff[^\0\xff]")
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


class TooManyParts(Exception):
    """The text says of what."""


class Unsupported(Exception):
    """The text says what, and what to do."""


class Frame(NamedTuple):
    """A JPEG's frame header, and what else stands before its first scan."""

    marker: int
    """0xC0 for SOF0, and so on."""
    precision: int
    """Bits a sample."""
    height: int
    width: int
    samples: int
    """Of all components, in whole blocks."""
    components: int
    one_scan: bool
    """Whether the first scan has all components, at full precision: what libjpeg decodes without holding it all."""
    may_be_turned: bool
    """Whether there is EXIF or XMP data, which could give an orientation."""

    @property
    def kind(self) -> str:
        return f"SOF{self.marker - 0xC0}"


def jpeg_frame(data: bytes) -> Frame | None:
    """Return what the headers say up to the first scan; None if libjpeg would find no frame or no scan.

    Raises TooManyParts.
    """
    if data[:3] != b"\xff\xd8\xff":
        return None
    frame: Frame | None = None
    may_be_turned = False
    place = 2
    for _ in range(MAX_PARTS):
        # Other bytes before a marker, and any number of 0xFF, are skipped.
        if (match := _MARKER.search(data, place)) is None:
            return None
        place = match.end()
        marker = data[place - 1]
        if marker in _WITHOUT_LENGTH:
            continue
        if marker in (_SOI, _EOI):
            return None
        # libjpeg takes a length below 2 for 2.
        length = max(2, int.from_bytes(data[place : place + 2]))
        if place + length > len(data):
            return None
        if marker == _SOS:
            if frame is None or length == 2:
                return None
            one_scan = data[place + 2] == frame.components and frame.marker not in PROGRESSIVE
            return frame._replace(one_scan=one_scan, may_be_turned=may_be_turned)
        if marker in _FRAMES:
            # A second frame is an error to every decoder.
            if frame is not None:
                return None
            frame = _frame(marker, data[place + 2 : place + length])
            if frame is None:
                return None
        may_be_turned |= marker == _APP1
        place += length
    raise TooManyParts(f"more than {MAX_PARTS:,} segments before its first scan")


def _frame(marker: int, body: bytes) -> Frame | None:
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        return None
    precision, height, width, components = struct.unpack_from(">BHHB", body)
    across, down = [byte >> 4 for byte in body[7::3]], [byte & 15 for byte in body[7::3]]
    if not (components and width and height) or not 1 <= min(across + down) <= max(across + down) <= 4:
        return None
    units = -(-width // (8 * max(across))) * -(-height // (8 * max(down)))
    samples = units * 64 * sum(map(operator.mul, across, down))
    return Frame(marker, precision, height, width, samples, components, False, False)


def jpeg_scans(data: bytes) -> int:
    """Return the number of scans, or a few more: those of thumbnails count. In a scan, this marker cannot occur."""
    return data.count(b"\xff\xda")


class WebP(NamedTuple):
    width: int
    height: int
    animated: bool


def webp(data: bytes) -> WebP | None:
    """Return what the first chunk says; None unless it is one that a WebP begins with. Raises TooManyParts."""
    body = data[20:30]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(body) < 10:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        _count(_chunks(data, 12, "<4sI", 8, 2), "chunks")
        width, height = (1 + int.from_bytes(body[start : start + 3], "little") for start in (4, 7))
        return WebP(width, height, bool(body[0] & 2))
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return WebP(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), False)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<2H", body, 6)
        return WebP(width & 0x3FFF, height & 0x3FFF, False)
    return None


def check_parts(data: bytes) -> None:
    """Raise TooManyParts if it is a PNG or GIF with more parts than any image needs."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        # An animation has two chunks or more for each frame.
        pixels = (b"IDAT", b"fdAT", b"fcTL")
        _count((kind for kind in _chunks(data, 8, ">I4s", 12, 1) if kind not in pixels), "chunks")
    elif data[:4] == b"GIF8":
        _check_gif(data)


def _chunks(data: bytes, place: int, layout: str, extra: int, even: int) -> Iterator[bytes]:
    """Yield the kinds of a file's chunks: of a header with kind and length, and `extra` bytes around the body."""
    header = struct.Struct(layout)
    while place + header.size <= len(data):
        fields = header.unpack_from(data, place)
        kind, length = fields if isinstance(fields[0], bytes) else fields[::-1]
        yield kind
        place += extra + -(-length // even) * even


def _check_gif(data: bytes) -> None:
    """Walk the extensions before the first frame."""
    palette = 3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0
    place, size = 13 + palette, 0
    while data[place : place + 1] not in (b",", b";", b""):
        if data[place : place + 1] == b"!":
            place += 2
            while length := data[place] if place < len(data) else 0:
                place += 1 + length
                size += 1 + length
        place += 1
        size += 1
        if size > MAX_COMMENTS:
            raise TooManyParts(f"more than {MAX_COMMENTS:,} bytes of comments before its first frame")


def _count(parts: Iterator[bytes], of_what: str) -> None:
    if any(number >= MAX_PARTS for number, _ in enumerate(parts)):
        raise TooManyParts(f"more than {MAX_PARTS:,} {of_what}")
