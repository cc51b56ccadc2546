"""AVIF files, box by box, of a picture that a real encoder coded."""

import io
import struct
from collections.abc import Sequence

from PIL import Image


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, *content: bytes, version: int = 0) -> bytes:
    return box(kind, bytes((version, 0, 0, 0)), *content)


def coded(picture: Image.Image) -> bytes:
    """The AV1 data of a picture: temporal delimiter, sequence header, frame."""
    buffer = io.BytesIO()
    picture.save(buffer, "AVIF", speed=10)
    data = buffer.getvalue()
    return data[data.index(b"mdat") + 4 :]


def sequence_header(across: int, down: int, width: int, height: int, reduced: bool = True) -> bytes:
    """A sequence header as far as the sizes, which have `across` and `down` bits."""
    start = "00011" + "00000" if reduced else "00010" + "0" + "0" + "00000" + "0" * 12 + "00000"
    bits = f"{start}{across - 1:04b}{down - 1:04b}{width - 1:0{across}b}{height - 1:0{down}b}"
    bits = bits.ljust(128, "0")
    return bytes((0x0A, 16)) + int(bits, 2).to_bytes(16)


def with_sequence(obus: bytes, header: bytes) -> bytes:
    """The same AV1 data with another sequence header."""
    assert obus[:3] == b"\x12\0\n"
    return obus[:2] + header + obus[4 + obus[3] :]


def avif(
    obus: bytes,
    size: tuple[int, int],
    *,
    extents: Sequence[tuple[int, int]] | None = None,
    items: int = 1,
    properties: bytes = b"",
    brand: bytes = b"avif",
    after: bytes = b"",
) -> bytes:
    """A file of one picture. `extents` are place, in the data, and length; `items` has the same picture many times."""
    pieces = [(0, len(obus))] if extents is None else extents

    def meta(start: int) -> bytes:
        located = struct.pack(">H", len(pieces)) + b"".join(struct.pack(">II", start + at, size) for at, size in pieces)
        locations = b"".join(struct.pack(">HH", number, 0) + located for number in range(1, items + 1))
        infos = b"".join(
            full_box(b"infe", struct.pack(">HH4s", number, 0, b"av01"), b"\0", version=2)
            for number in range(1, items + 1)
        )
        properties_of = struct.pack(">HBBBB", 1, 3, 1, 2, 0x83)
        return full_box(
            b"meta",
            full_box(b"hdlr", bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", struct.pack(">H", 1)),
            full_box(b"iloc", b"\x44\0", struct.pack(">H", items), locations),
            full_box(b"iinf", struct.pack(">H", items), infos),
            box(
                b"iprp",
                box(
                    b"ipco",
                    full_box(b"ispe", struct.pack(">II", *size)),
                    full_box(b"pixi", b"\3\x08\x08\x08"),
                    box(b"av1C", b"\x81\0\x0c\0"),
                    properties,
                ),
                full_box(b"ipma", struct.pack(">I", 1), properties_of),
            ),
        )

    head = box(b"ftyp", brand, bytes(4), b"avif", b"mif1", b"miaf")
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", obus) + after
