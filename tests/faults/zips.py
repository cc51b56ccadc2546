"""Zips with whatever headers one wants, which Python's zipfile would not write."""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

STORED, DEFLATED = 0, 8
ENCRYPTED, DESCRIPTOR, UTF8 = 1, 8, 0x800
_UNKNOWN_32, _UNKNOWN_16 = 0xFFFFFFFF, 0xFFFF


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def deflated_zeros(count: int) -> tuple[bytes, int]:
    """`count` zero bytes deflated, and their CRC-32, without holding them."""
    packer, packed, crc, block = zlib.compressobj(9, wbits=-15), [], 0, bytes(1 << 20)
    for start in range(0, count, len(block)):
        part = block[: count - start]
        packed.append(packer.compress(part))
        crc = zlib.crc32(part, crc)
    return b"".join([*packed, packer.flush()]), crc


@dataclass(frozen=True)
class Entry:
    """A member. What the headers say of it follows from its data where it is not given."""

    name: str
    data: bytes
    """As it lies in the zip: packed already if `method` says so."""
    method: int = STORED
    flags: int = UTF8
    size: int | None = None
    crc: int | None = None
    attributes: int = 0
    """Unix mode."""
    zip64: bool = False
    offset: int | None = None
    """Where the directory says that it begins."""
    version: int = 45
    """Of the format, that a reader needs."""
    extra: bytes = b""
    """Extra fields in the directory, besides that of Zip64."""


def packed(name: str, data: bytes) -> Entry:
    """A deflated member."""
    return Entry(name, deflated(data), DEFLATED, size=len(data), crc=zlib.crc32(data))


def write(path: Path, entries: Iterable[Entry]) -> None:
    path.write_bytes(zip_of(entries))


def zip_of(entries: Iterable[Entry], disk: int = 0, before_end: bytes = b"", extension: bytes = b"") -> bytes:
    """`before_end` lies between the directory and its end record, `extension` at the end of the one of Zip64."""
    body, directory, count, any_zip64 = bytearray(), bytearray(), 0, False
    for entry in entries:
        local, central = _headers(entry, len(body) if entry.offset is None else entry.offset)
        body += local
        directory += central
        count += 1
        any_zip64 = any_zip64 or entry.zip64
    return bytes(body + directory + before_end + _end(len(body), len(directory), count, any_zip64, disk, extension))


def _headers(entry: Entry, offset: int) -> tuple[bytes, bytes]:
    name = entry.name.encode("utf-8", "surrogateescape")
    size = len(entry.data) if entry.size is None else entry.size
    crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
    sizes = len(entry.data), size
    fixed = entry.flags, entry.method, 0, 0x21
    described = bool(entry.flags & DESCRIPTOR)
    in_local = (0, 0, 0) if described else (crc, *(min(value, _UNKNOWN_32) for value in sizes))
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 45, *fixed, *in_local, len(name), 0) + name + entry.data
    if described:
        local += struct.pack("<4s3I", b"PK\7\10", crc, *(min(value, _UNKNOWN_32) for value in sizes))
    extra = entry.extra
    if entry.zip64:
        extra += struct.pack("<2H3Q", 1, 24, size, len(entry.data), offset)
        sizes, offset = (_UNKNOWN_32, _UNKNOWN_32), _UNKNOWN_32
    central = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 0x32D, entry.version, *fixed, crc, *sizes, len(name), len(extra), 0, 0, 0,
        entry.attributes << 16, offset,
    )  # fmt: skip
    return local, central + name + extra


def _end(start: int, size: int, count: int, zip64: bool, disk: int = 0, extension: bytes = b"") -> bytes:
    end = b""
    if zip64 or count >= _UNKNOWN_16:
        end += struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44 + len(extension), 45, 45, disk, disk, count, count, size, start)
        end += extension
        end += struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1)
        return end + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, _UNKNOWN_16, _UNKNOWN_16, _UNKNOWN_32, _UNKNOWN_32, 0)
    return struct.pack("<4s4H2IH", b"PK\5\6", disk, disk, count, count, size, start, 0)


def write_crowd(path: Path, members: int, name_width: int = 7) -> None:
    """A zip of nothing but a directory, of so many members, all of them the same empty file."""
    names = (b"%0*d" % (name_width, number) for number in range(members))
    header = struct.pack("<4s6H3I5H2I", b"PK\1\2", 0x314, 20, 0, 0, 0, 0x21, 0, 0, 0, name_width, *[0] * 6)
    directory = b"".join(header + name for name in names)
    path.write_bytes(directory + _end(0, len(directory), members, zip64=False))


def png_of_zeros(width: int, height: int) -> bytes:
    """A black picture of one bit a pixel: 50 kB for 20,000×20,000 of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">2I5B", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + -(-width // 8)) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
