"""The decompressors: whole files from any pieces, within bounds, and nothing but Damaged for what is damaged."""

import contextlib
import lzma
import random
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catsdogs.data.compression import DEFLATED, LZMA, MAX_DICTIONARY, READ, STORED, XZ, Damaged, decompressor
from tests.archives import packed_by

METHODS = sorted(READ - {STORED})
FILE = random.Random(1).randbytes(3000) + bytes(20_000) + b"tail" * 500


def in_pieces(method: int, stream: bytes, piece: int, most: int) -> bytes:
    """The file, from a stream that comes in pieces, by calls that return `most` bytes at most."""
    unpacker = decompressor(method, len(FILE))
    file = []
    for start in range(0, len(stream), piece):
        block = stream[start : start + piece]
        data = b""
        while block or len(data) == most:
            data = unpacker.decompress(block, most)
            assert len(data) <= most
            block = b""
            file.append(data)
    return b"".join(file)


@pytest.mark.parametrize("piece", [1, 7, 100, 1 << 20])
@pytest.mark.parametrize("most", [11, 1000, 1 << 20])
@pytest.mark.parametrize("method", METHODS)
def test_pieces_of_any_size_give_the_file(method: int, most: int, piece: int) -> None:
    assert in_pieces(method, packed_by(method, FILE), piece, most) == FILE
    assert in_pieces(method, packed_by(method, FILE) + b"behind it", piece, most) == FILE or method == LZMA


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
def test_damage_is_damaged_or_other_bytes(method: int, data: st.DataObject) -> None:
    stream = bytearray(packed_by(method, FILE))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    del stream[data.draw(st.integers(0, len(stream))) :]
    with contextlib.suppress(Damaged):
        in_pieces(method, bytes(stream), 1000, 1 << 20)


@pytest.mark.parametrize("method", METHODS)
def test_a_call_returns_no_more_than_it_may(method: int) -> None:
    """10 MB of zeros: they are not held. A dictionary of xz has 8 MiB unless its writer wants another."""
    zeros = bytes(10 << 20)
    stream = packed_by(method, zeros)
    del zeros
    unpacker = decompressor(method, 1000)
    tracemalloc.start()
    try:
        assert unpacker.decompress(stream, 1001) == bytes(1001)
        assert tracemalloc.get_traced_memory()[1] < (9 << 20 if method == XZ else 1 << 20)
    finally:
        tracemalloc.stop()


def test_a_dictionary_is_no_larger_than_the_file_or_the_limit() -> None:
    stream = bytearray(packed_by(LZMA, FILE))
    stream[5:9] = struct.pack("<I", 0xFFFFFFFF)
    assert decompressor(LZMA, len(FILE)).decompress(bytes(stream), 1 << 20) == FILE
    with pytest.raises(Damaged, match=f"needs 4,294,967,295 bytes to decompress, more than {MAX_DICTIONARY:,}"):
        decompressor(LZMA, 1 << 40).decompress(bytes(stream), 1 << 20)


def test_an_xz_stream_that_needs_too_much_memory() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    stream = lzma.compress(FILE, lzma.FORMAT_XZ, filters=filters)
    with pytest.raises(Damaged, match="does not decompress"):
        decompressor(XZ, len(FILE)).decompress(bytes(stream), 1 << 20)


@pytest.mark.parametrize("properties", [b"\xff", bytes([224]), bytes([8 + 9 * 4])])
def test_properties_that_no_lzma_stream_has(properties: bytes) -> None:
    stream = bytearray(packed_by(LZMA, FILE))
    stream[4:5] = properties
    with contextlib.suppress(Damaged):
        assert decompressor(LZMA, len(FILE)).decompress(bytes(stream), 1 << 20) != FILE


def test_the_checksum_that_zlib_would_give_is_not_needed() -> None:
    """A zip's Deflate has no header."""
    with pytest.raises(Damaged, match="does not inflate"):
        decompressor(DEFLATED, 9).decompress(zlib.compress(b"\xff" * 9), 100)
