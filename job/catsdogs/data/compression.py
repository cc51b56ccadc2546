"""The compression methods of zip members: which ones are read, and a decompressor for each, bounded in its output.

Python's zlib, bz2 and lzma read Deflate, bzip2, LZMA and xz. The others would need a library each: none for Deflate64
bounds what one call returns, and archives of photos with zstd or PPMd are too rare for a dependency.
"""

import bz2
import lzma
import zipfile
import zlib
from typing import Protocol

STORED, DEFLATED, BZIP2, LZMA, XZ = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 95
READ = frozenset({STORED, DEFLATED, BZIP2, LZMA, XZ})
MAX_DICTIONARY = 64 << 20
"""Bytes that an LZMA stream may refer back to: as many as `xz -9` or 7-Zip's Ultra use."""

_NAMES = {
    1: "Shrink", **dict.fromkeys(range(2, 6), "Reduce"), 6: "Implode", 9: "Deflate64", 10: "PKWARE Implode",
    16: "IBM CMPSC", 18: "IBM TERSE", 19: "IBM LZ77", 20: "Zstandard", 93: "Zstandard", 94: "MP3", 96: "JPEG recoding",
    97: "WavPack", 98: "PPMd", 99: "AES encryption",
}  # fmt: skip
_LZMA_HEADER = 9
"""Bytes before an LZMA stream: version (2), size of the properties (2), and the properties."""
_LZMA_PROPERTIES = 5
_MIN_DICTIONARY = 4 << 10


class Damaged(Exception):
    """The bytes are not a stream of their method; the text is the reason."""


class Decompressor(Protocol):
    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """Take more of the stream, and return the next bytes of the file, at most `max_length`.

        There are more for b"" if as many are returned; what follows the stream is ignored. Raises Damaged.
        """


def unreadable(method: int) -> str | None:
    """Return why members of this method are not read; None if they are."""
    if method in READ:
        return None
    name = _NAMES.get(method, "an unknown method")
    return f"is compressed with {name} (method {method}), which is not read; recreate the zip with Deflate"


def decompressor(method: int, size: int) -> Decompressor:
    """Return a decompressor for a member that claims `size` bytes, of a method in READ other than STORED."""
    if method == DEFLATED:
        return _Deflate()
    if method == BZIP2:
        return _Other(bz2.BZ2Decompressor())
    if method == XZ:
        # A dictionary, and what the decoder needs besides.
        return _Other(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DICTIONARY + (1 << 20)))
    return _Lzma(size)


class _Deflate:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        if self._stream.unconsumed_tail:
            data = self._stream.unconsumed_tail + bytes(data)
        try:
            return self._stream.decompress(data, max_length)
        except zlib.error as error:
            raise Damaged(f"does not inflate: {error}") from None


class _Other:
    """bz2's and lzma's decompressors keep what they have not taken yet."""

    def __init__(self, stream: bz2.BZ2Decompressor | lzma.LZMADecompressor):
        self._stream = stream

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        if self._stream.eof:
            return b""
        try:
            return self._stream.decompress(data, max_length)
        except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
            raise Damaged(f"does not decompress: {error}") from None


class _Lzma:
    """A raw LZMA stream behind the header that a zip gives it."""

    def __init__(self, size: int):
        self._size = size
        self._header = b""
        self._stream: _Other | None = None

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        if self._stream is None:
            missing = _LZMA_HEADER - len(self._header)
            self._header += bytes(data[:missing])
            data = data[missing:]
            if len(self._header) < _LZMA_HEADER:
                return b""
            self._stream = self._started()
        return self._stream.decompress(data, max_length)

    def _started(self) -> _Other:
        if int.from_bytes(self._header[2:4], "little") != _LZMA_PROPERTIES:
            raise Damaged("does not decompress: no LZMA properties")
        rest, literal_context = divmod(self._header[4], 9)
        position, literal_position = divmod(rest, 5)
        # No byte of the file refers further back than to its start, whatever dictionary the properties ask for.
        dictionary = max(_MIN_DICTIONARY, min(int.from_bytes(self._header[5:], "little"), self._size))
        if dictionary > MAX_DICTIONARY:
            raise Damaged(f"needs {dictionary:,} bytes to decompress, more than {MAX_DICTIONARY:,}")
        options = {
            "id": lzma.FILTER_LZMA1, "lc": literal_context, "lp": literal_position, "pb": position,
            "dict_size": dictionary,
        }  # fmt: skip
        try:
            return _Other(lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[options]))
        except (ValueError, lzma.LZMAError) as error:
            raise Damaged(f"does not decompress: {error}") from None
