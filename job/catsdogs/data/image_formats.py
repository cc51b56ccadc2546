"""What kind of picture a file is, by its first bytes."""

import struct

LENGTH = 256
"""Bytes that decide."""

_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"IIRO": "camera raw",
    b"IIRS": "camera raw",
    b"MMOR": "camera raw",
    b"IIU\0": "camera raw",
    b"FUJIFILMCCD-RAW": "camera raw",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "Photoshop",
}
"""The first that fits decides."""
_BRANDS = {
    "AVIF": {b"avif", b"avis"},
    "HEIC": {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"heif"},
    "camera raw": {b"crx "},
}
"""Of an ISO media file, which may also be a video."""
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
"""Sizes of the header that follows "BM", with which many a text begins."""


def kind(start: bytes) -> str | None:
    """Return what a file that begins with `start`, its first LENGTH bytes, is; None if it is no picture known here."""
    if start[:4] == b"RIFF":
        return "WEBP" if start[8:12] == b"WEBP" else None
    if start[:2] == b"BM":
        return "BMP" if len(start) > 18 and struct.unpack_from("<I", start, 14)[0] in _BMP_HEADERS else None
    if start[:4] == b"II*\0" and start[8:10] == b"CR":
        return "camera raw"
    if start[4:8] == b"ftyp":
        end = min(len(start), int.from_bytes(start[:4]))
        brands = {start[8:12], *(start[place : place + 4] for place in range(16, end - 3, 4))}
        return next((name for name, of_kind in _BRANDS.items() if brands & of_kind), None)
    return next((name for signature, name in _STARTS.items() if start.startswith(signature)), None)
