"""What a file is that is not a zip, by its first bytes, and what to do about it."""

import re
import zlib

HEAD = 1024
"""Bytes from which `what_it_is` tells."""

_TAR = slice(257, 262)
_AGAIN = "download the archive again"
_PARTS = re.compile(r"\.(?:z\d\d|zx\d\d|\d{3}|part\d+|aa|ab)$", re.IGNORECASE)


def _container(kind: str) -> str:
    return f"is {kind}, not a zip; unpack it, and give the folder with its images, or a zip of it"


_SIGNATURES: list[tuple[bytes, str]] = [
    (b"7z\xbc\xaf\x27\x1c", _container("a 7z archive")),
    (b"Rar!\x1a\x07", _container("a RAR archive")),
    (b"BZh", _container("a bzip2 file (tar.bz2?)")),
    (b"\xfd7zXZ\0", _container("an xz file (tar.xz?)")),
    (b"\x28\xb5\x2f\xfd", _container("a Zstandard file (tar.zst?)")),
    (b"\x04\x22\x4d\x18", _container("an LZ4 file")),
    (b"\x1f\x9d", _container("a compress file (tar.Z?)")),
    (b"MSCF\0\0\0\0", _container("a Windows cabinet")),
    (b"xar!", _container("a xar archive")),
    (b"LRZI", _container("an lrzip file")),
    (b"PK\7\10PK\3\4", "is the first part of a split zip; join its parts: zip -s 0 LAST_PART.zip --out whole.zip"),
    (b"PK00PK\3\4", f"is a truncated zip: its end is missing; {_AGAIN}"),
    (b"%PDF-", "is a PDF document, not a zip; give Kaggle's dogs-vs-cats.zip"),
    (b"\xff\xd8\xff", "is a single JPEG image; give a zip of all images, or their folder"),
    (b"\x89PNG\r\n\x1a\n", "is a single PNG image; give a zip of all images, or their folder"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file; give the images themselves, in a zip or a folder"),
    (b"PAR1", "is a Parquet file; give the images themselves, in a zip or a folder"),
    (b"\x93NUMPY", "is a NumPy array; give the images themselves, in a zip or a folder"),
    (b"version https://git-lfs.github.com/spec/", "is a Git LFS pointer, not the file itself; run git lfs pull"),
]
_HTML = re.compile(
    rb"(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|script|meta|title)\b", re.IGNORECASE | re.DOTALL
)


def what_it_is(head: bytes, name: str) -> str:
    """Return what a file is that has no zip directory, and what to do: the rest of a sentence about it.

    `head` are its first HEAD bytes, or all there are; `name` is its own.
    """
    if not head:
        return f"is empty; {_AGAIN}"
    for signature, text in _SIGNATURES:
        if head.startswith(signature):
            return text
    if head.startswith(b"\x1f\x8b"):
        return _gzipped(head)
    if head[_TAR] == b"ustar":
        return _container("a tar archive")
    if (part := part_of_split(name)) is not None:
        return part
    if head.startswith(b"PK\3\4"):
        return f"is a truncated zip, or has other data behind its end; {_AGAIN}"
    content = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        content = head.decode("utf-16", "replace").encode("utf-8", "replace").lstrip()
    if _HTML.match(content):
        return "is an HTML page, such as of a login or an error; log in, and download the archive again"
    if content.startswith((b"<?xml", b"<Error")):
        return f"is an XML document, such as a storage's error message; {_AGAIN}"
    if content.startswith((b"{", b"[")) and head.isascii():
        return f"is a JSON document, such as an error message; {_AGAIN}"
    if len(head) == HEAD and not head.strip(b"\0"):
        return f"begins with nothing but zeros, as an unfinished download does; {_AGAIN}"
    return f"is not a zip, or a truncated one; {_AGAIN}"


def part_of_split(name: str) -> str | None:
    """Return the same for a file that its name calls a part of one; None if it does not."""
    if not _PARTS.search(name):
        return None
    return "is one part of an archive that was split; join all parts first (cat or zip -s 0), and give the whole zip"


def _gzipped(head: bytes) -> str:
    try:
        inside = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, HEAD)
    except zlib.error:
        inside = b""
    if inside.startswith(b"PK"):
        return "is a zip that was compressed with gzip; unpack it with gunzip"
    return _container("a gzipped tar archive (tar.gz)" if inside[_TAR] == b"ustar" else "a gzip file (tar.gz?)")
