"""TIFF and AVIF files, which `catsdogs predict` decodes, made to fill the memory, or to give work for hours."""

import contextlib
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from catsdogs.data import budget
from catsdogs.data.images import NotAnImage, decode
from tests.attacks import avifs
from tests.attacks.avifs import avif, sequence_header, with_sequence
from tests.attacks.jpegs import photo
from tests.attacks.test_images import MEMORY, in_a_process

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

SMALL = (48, 32)
CODED = avifs.coded(photo(*SMALL))


def saved(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF", **options)
    return buffer.getvalue()


def tiff(tags: dict[int, tuple[int, int, int]], data: bytes = b"", repeat: int = 1) -> bytes:
    """A TIFF of these tags, each with type, number of values, and value or offset; `data` begins at 8."""
    place = 8 + len(data)
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    return (
        b"II*\0" + struct.pack("<I", place) + data + struct.pack("<H", repeat * len(tags)) + entries * repeat + bytes(4)
    )


def picture_tags(width: int, height: int, compression: int = 1, **_: int) -> dict[int, tuple[int, int, int]]:
    return {
        256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, compression), 262: (3, 1, 1),
        273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, 1000),
    }  # fmt: skip


def greedy(count: int, size: int) -> bytes:
    """A sound picture, with tags that each have the whole file as their value."""
    tags = picture_tags(30, 30) | {40_000 + number: (7, size, 8) for number in range(count)}
    return tiff(tags, bytes(size))


HOSTILE: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "tags that each have all of the file": (lambda: greedy(5_000, 8 << 20), None),
    "more tags than any picture": (lambda: greedy(20_000, 100), "more than 10,000 tags"),
    "one tag again and again": (lambda: tiff({256: (4, 1, 30)}, repeat=60_000), "more than 10,000 tags"),
    "millions of strips": (
        lambda: tiff(picture_tags(30, 30) | {273: (4, 8_000_000, 8), 279: (4, 8_000_000, 8)}, bytes(32_000_000)),
        "more than 10,000 strips",
    ),
    "a palette without an end": (
        lambda: tiff(picture_tags(30, 30) | {320: (3, 8_000_000, 8)}, bytes(16_000_000)), "more than 768 values",
    ),
    "many bits of many samples": (
        lambda: tiff(picture_tags(8000, 8000, 5) | {277: (4, 1, 2**32 - 1), 258: (3, 1, 64)}, bytes(1000)), "",
    ),
    "a tile larger than the world": (
        lambda: tiff(
            {tag: entry for tag, entry in picture_tags(30, 30, 5).items() if tag not in (273, 278, 279)}
            | {322: (4, 1, 2**31), 323: (4, 1, 2**31), 324: (4, 1, 8), 325: (4, 1, 1000)},
            bytes(1000),
        ),
        "to decode, more than 268,435,456",
    ),
    "more pixels than memory": (lambda: tiff(picture_tags(65_000, 65_000, 5), bytes(1000)), "more than 64,000,000"),
    "a directory beyond the end": (
        lambda: b"II*\0" + struct.pack("<I", 2**32 - 1) + bytes(100), "damaged TIFF headers",
    ),
    "a container that claims a large size": (lambda: avif(CODED, (30_000, 30_000)), "an AVIF of 900,000,000 pixels"),
    "coded data that claims a large size": (
        lambda: avif(with_sequence(CODED, sequence_header(16, 16, 65_536, 65_536)), SMALL),
        "bytes to decode, more than",
    ),
    "frames that may have any size": (
        lambda: avif(with_sequence(CODED, sequence_header(16, 16, *SMALL, reduced=False)), SMALL),
        "bytes to decode, more than",
    ),
    "a second sequence header": (
        lambda: avif(CODED + sequence_header(16, 16, 65_536, 65_536), SMALL), "bytes to decode, more than",
    ),
    "pieces that are all of the file": (
        lambda: avif(CODED + bytes(1 << 20), SMALL, extents=[(0, 1 << 20)] * 4_000), "parts that share their bytes",
    ),
    "pictures that are all of the file": (
        lambda: avif(CODED + bytes(1 << 20), SMALL, items=200), "parts that share their bytes",
    ),
    "more pictures than any grid": (lambda: avif(CODED, SMALL, items=10_000), "a table of more than"),
    "millions of boxes": (lambda: avif(CODED, SMALL, after=avifs.box(b"free") * 2_000_000), "more than 1,000 boxes"),
    "millions of properties": (
        lambda: avif(CODED, SMALL, properties=avifs.box(b"free") * 1_000_000), "more than 1,000 boxes",
    ),
    "millions of pieces of AV1 data": (
        lambda: avif(b"\x12\0" * 10_000_000, SMALL), "more than 1,000 pieces of AV1 data",
    ),
    "a box in no end of boxes": (lambda: avif(CODED, SMALL, after=struct.pack(">I4s", 8, b"meta") * 900), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_headers_decide_before_a_decoder_allocates(kind: str, tmp_path: Path) -> None:
    make, reason = HOSTILE[kind]
    data = make()
    assert len(data) < budget.MAX_FILE
    (tmp_path / "hostile").write_bytes(data)
    process = in_a_process(
        """if True:
        import pathlib, time
        from catsdogs.data.images import NotAnImage, decode
        def peak():
            [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
            return int(line.split()[1]) << 10
        data = pathlib.Path("hostile").read_bytes()
        before, began = peak(), time.process_time()
        try:
            result = decode(data, more_formats=True).shape
        except NotAnImage as error:
            result = error
        print(peak() - before, time.process_time() - began, result)
        """,
        tmp_path,
    )
    assert (process.returncode, process.stderr) == (0, "")
    memory, seconds, result = process.stdout.strip().split(maxsplit=2)
    assert result == "(30, 30, 3)" if reason is None else reason in result
    # The parts of a file are copied at most.
    assert int(memory) < (30 << 20) + 2 * len(data)
    assert float(seconds) < 2


@pytest.mark.parametrize("size", [SMALL, (49, 32)])
def test_the_files_made_here_are_sound_but_for_what_is_changed(size: tuple[int, int]) -> None:
    """Otherwise they would be refused for another reason."""
    data = avif(CODED, size)
    if size == SMALL:
        assert np.abs(decode(data, more_formats=True).astype(int) - np.asarray(photo(*SMALL))).mean() < 12
    else:
        with contextlib.suppress(NotAnImage):
            assert decode(data, more_formats=True).shape == (32, 49, 3)


LARGE: dict[str, Callable[[], bytes]] = {
    "tiff": lambda: saved(photo(6500, 5000), compression="tiff_lzw"),
    "tiff, turned": lambda: saved(photo(6500, 5000), compression="tiff_lzw", exif=_sideways()),
    "tiff, not compressed": lambda: saved(photo(5300, 4000)),
    "tiff, gray": lambda: saved(photo(8000, 8000).convert("L"), compression="tiff_lzw"),
    "tiff, one strip": lambda: saved(photo(4500, 4000), compression="tiff_adobe_deflate", tiffinfo={278: 5000}),
    "avif": lambda: _avif(photo(4000, 3000)),
    "avif, transparent": lambda: _avif(photo(3000, 2000).convert("RGBA"), subsampling="4:4:4"),
}


def _avif(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "AVIF", speed=10, **options)
    return buffer.getvalue()


def _sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_what_is_wrong_with_a_tiff_is_said_once(tmp_path: Path) -> None:
    """libtiff and Pillow would write lines of their own, without the name of the file."""
    lzw = FUZZED["lzw"]
    (tmp_path / "stream.tif").write_bytes(lzw[:60] + bytes(40) + lzw[100:])
    (tmp_path / "samples.tif").write_bytes(HOSTILE["many bits of many samples"][0]())
    process = in_a_process(
        """if True:
        from catsdogs.published.predict import _pixels
        for name in ("stream.tif", "samples.tif"):
            assert isinstance(_pixels(name, None, 150), str)
        """,
        tmp_path,
    )
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("kind", LARGE)
def test_large_images_are_decoded_within_the_memory(kind: str, tmp_path: Path) -> None:
    """Eight at once, as `predict` does."""
    (tmp_path / "large").write_bytes(LARGE[kind]())
    process = in_a_process(
        """if True:
        from concurrent.futures import ThreadPoolExecutor
        from catsdogs.published.predict import _pixels
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda _: _pixels("large", None, 150), range(8)))
        [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
        print({getattr(result, "shape", result) for result in results}, int(line.split()[1]) << 10)
        """,
        tmp_path,
        300,
    )
    assert (process.returncode, process.stderr) == (0, "")
    shapes, memory = process.stdout.rsplit(maxsplit=1)
    assert shapes == "{(150, 150, 3)}"
    assert int(memory) < MEMORY


FUZZED = {
    "raw": saved(photo(*SMALL)),
    "lzw": saved(photo(*SMALL), compression="tiff_lzw"),
    "deflate, predictor": saved(photo(*SMALL), compression="tiff_adobe_deflate", tiffinfo={317: 2}),
    "packbits, gray": saved(photo(*SMALL).convert("L"), compression="packbits"),
    "big": saved(photo(*SMALL).quantize(9), compression="tiff_lzw", big_tiff=True),
    "avif": avif(CODED, SMALL),
    "avif, transparent": _avif(photo(*SMALL).convert("RGBA")),
}


@given(st.sampled_from(sorted(FUZZED)), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_files_are_pixels_or_not_an_image(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(FUZZED[kind])
    # Headers are what decoders allocate by: at the end of a TIFF, at the beginning of an AVIF.
    size = len(damaged)
    ends = st.integers(0, min(300, size - 1)) | st.integers(max(0, size - 200), size - 1)
    for place, value in data.draw(
        st.lists(st.tuples(ends | st.integers(0, size - 1), st.integers(0, 255)), max_size=6)
    ):
        damaged[place] = value
    del damaged[data.draw(st.integers(0, size) | st.just(size)) :]
    with contextlib.suppress(NotAnImage):
        decode(bytes(damaged), data.draw(st.sampled_from([None, (9, 9)])), more_formats=True)
