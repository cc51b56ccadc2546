import contextlib
import io
import math
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from catsdogs.data.images import MAX_PIXELS, NotAnImage, decode
from tests.conftest import REPOSITORY

# Pillow warns about odd metadata of pictures that decode, and the tests' configuration makes warnings errors.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

WIDTH, HEIGHT = 40, 24
RED, GREEN, BLUE, WHITE = (210, 30, 30), (30, 180, 40), (40, 40, 200), (250, 250, 250)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def quadrants(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Red and green above blue and white: turned or mirrored in any way it is another picture."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(GREEN, (width // 2, 0, width, height))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    picture.paste(WHITE, (width // 2, height // 2, width, height))
    return picture


def file_of(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(picture: Image.Image | None = None, **options: Any) -> bytes:
    return file_of(picture or quadrants(), "JPEG", quality=95, **options)


def png(picture: Image.Image | None = None, **options: Any) -> bytes:
    return file_of(picture or quadrants(), "PNG", **options)


def ramp() -> Image.Image:
    """Gray, from black to white."""
    return Image.fromarray(np.linspace(0, 255, WIDTH * HEIGHT).astype(np.uint8).reshape(HEIGHT, WIDTH))


def translucent() -> Image.Image:
    picture = quadrants().convert("RGBA")
    picture.putalpha(128)
    return picture


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def turned(value: int, by: Image.Transpose) -> bytes:
    """A camera's JPEG of the quadrants: stored turned, with an EXIF orientation that says so."""
    return jpeg(quadrants().transpose(by), exif=orientation(value))


def with_odd_exif() -> bytes:
    """Turned, and with a resolution that claims to be text: ImageOps.exif_transpose fails on it."""
    exif = orientation(6)
    exif[0x011A] = 72.0
    data = jpeg(quadrants().transpose(Image.Transpose.ROTATE_90), exif=exif)
    return data.replace(b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02")


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def png_chunk(kind: bytes, body: bytes | bytearray) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_that_claims(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG_SIGNATURE + header + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")


def jpeg_that_claims(width: int, height: int, progressive: bool) -> bytes:
    data = bytearray(jpeg(progressive=progressive))
    frame = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """A PNG's chunks, each its kind and its body."""
    chunks, place = [], len(PNG_SIGNATURE)
    while place < len(data):
        (size,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 :][:size]))
        place += 12 + size
    return chunks


PICTURES: dict[str, Callable[[], bytes]] = {
    "jpeg": jpeg,
    "progressive jpeg": lambda: jpeg(progressive=True),
    "cmyk jpeg": lambda: jpeg(quadrants().convert("CMYK")),
    "jpeg and then zeros": lambda: jpeg() + bytes(500),
    "png": png,
    "rgba png": lambda: png(translucent()),
    "palette png, a colour transparent": lambda: png(quadrants().quantize(16), transparency=bytes([255, 0])),
    "gif": lambda: file_of(quadrants().quantize(16), "GIF"),
    "bmp": lambda: file_of(quadrants(), "BMP"),
    "webp": lambda: file_of(quadrants(), "WEBP", lossless=True),
    "exif 1": lambda: jpeg(exif=orientation(1)),
    "exif 2": lambda: turned(2, Image.Transpose.FLIP_LEFT_RIGHT),
    "exif 3": lambda: turned(3, Image.Transpose.ROTATE_180),
    "exif 4": lambda: turned(4, Image.Transpose.FLIP_TOP_BOTTOM),
    "exif 5": lambda: turned(5, Image.Transpose.TRANSPOSE),
    "exif 6": lambda: turned(6, Image.Transpose.ROTATE_90),
    "exif 7": lambda: turned(7, Image.Transpose.TRANSVERSE),
    "exif 8": lambda: turned(8, Image.Transpose.ROTATE_270),
    "exif 99": lambda: jpeg(exif=orientation(99)),
    "odd exif": with_odd_exif,
    "exif that is none": lambda: png(exif=b"Exif\0\0of a camera that writes what it likes"),
}
GRAYS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: jpeg(ramp()),
    "8-bit png": lambda: png(ramp()),
    "16-bit png": lambda: png(Image.fromarray(np.asarray(ramp()).astype(np.uint16) * 257)),
    "gray and alpha png": lambda: png(ramp().convert("LA")),
}
BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty file"),
    "text": (lambda: b"cat\n" * 50, "no JPEG, PNG, GIF, BMP or WEBP image"),
    "html": (lambda: b"<!DOCTYPE html><html><body>403</body></html>", "no JPEG, PNG, GIF, BMP or WEBP image"),
    "tiff": (lambda: file_of(quadrants(), "TIFF"), "a TIFF image, which is not decoded; save it as a JPEG or PNG"),
    "half a jpeg": (lambda: jpeg()[: len(jpeg()) // 2], "Truncated"),
    "jpeg without its last 20 bytes": (lambda: jpeg()[:-20], "truncated"),
    "half a png": (lambda: png()[: len(png()) // 2], "truncated"),
    "jpeg's beginning, then noise": (lambda: jpeg()[:20] + random.Random(0).randbytes(3000), "no JPEG"),
    "png with a flipped bit": (lambda: flipped(png(), len(png()) // 2), "broken data stream"),
    "palette png without its palette": (
        lambda: b"".join([PNG_SIGNATURE, *(png_chunk(*chunk) for chunk in CHUNKS if chunk[0] != b"PLTE")]),
        ".",
    ),
    "png bomb": (lambda: png_that_claims(20_000, 20_000), "20000x20000 pixels, more than 64,000,000"),
}
SOUND = {
    "jpeg": jpeg(exif=orientation(6)),
    "progressive": jpeg(progressive=True),
    "odd exif": with_odd_exif(),
    "png": png(exif=orientation(6)),
    "webp": file_of(quadrants(), "WEBP"),
    "gif": file_of(quadrants().quantize(4), "GIF"),
    "bmp": file_of(quadrants(), "BMP"),
}
CHUNKS: list[tuple[bytes, bytes]] = chunks_of(
    png(quadrants().quantize(4), transparency=b"\xff\0", exif=orientation(6), icc_profile=b"profile")
)
CHANGES = st.tuples(st.integers(0, len(CHUNKS) - 1), st.integers(0, 10_000), st.integers(0, 255))


def check_quadrants(pixels: NDArray[np.uint8]) -> None:
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    corners = {
        (row, column): pixels[row * height :, column * width :][2 : height - 2, 2 : width - 2].mean((0, 1))
        for row in (0, 1)
        for column in (0, 1)
    }
    for corner, colour in {(0, 0): RED, (0, 1): GREEN, (1, 0): BLUE, (1, 1): WHITE}.items():
        # CMYK without a colour profile is a few levels off.
        assert np.abs(corners[corner] - colour).max() < 8, corner


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("size", [None, (150, 150), (13, 19)])
def test_every_kind_of_picture_shows_what_was_drawn(kind: str, size: tuple[int, int] | None) -> None:
    pixels = decode(PICTURES[kind](), size)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*(size or (HEIGHT, WIDTH)), 3)
    check_quadrants(pixels)


@pytest.mark.parametrize("kind", GRAYS)
def test_a_gray_picture_keeps_its_brightness_in_three_channels(kind: str) -> None:
    pixels = decode(GRAYS[kind]())
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pixels.astype(int) - np.asarray(ramp())[..., None]).max() < 5, "more than JPEG's loss"


@pytest.mark.parametrize("size", [(150, 150), (20, 30), (601, 801)])
def test_a_large_jpeg_has_the_exact_size_however_coarsely_it_was_decoded(size: tuple[int, int]) -> None:
    pixels = decode(jpeg(quadrants(1601, 1203)), size)
    assert pixels.shape == (*size, 3)
    check_quadrants(pixels)


@given(
    st.sampled_from([0, 1, 2]), st.integers(1, 95), st.booleans(), st.booleans(), st.integers(1, 90),
    st.integers(1, 90), st.sampled_from([None, (9, 9), (10, 31)]), st.integers(0, 1000),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_a_sound_jpeg_has_the_pixels_that_pillow_gives_it(
    subsampling: int, quality: int, progressive: bool, gray: bool, width: int, height: int,
    size: tuple[int, int] | None, seed: int,
) -> None:  # fmt: skip
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    picture = Image.fromarray(noise).resize((width, height)).convert("L" if gray else "RGB")
    data = file_of(picture, "JPEG", quality=quality, progressive=progressive, subsampling=subsampling)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simplejpeg, "decode_jpeg", refusing)
        expected = decode(data, size)
    assert (decode(data, size) == expected).all()


def test_a_turned_jpeg_is_decoded_by_the_fast_decoder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    by_simplejpeg = []

    def watched(*arguments: Any, **options: Any) -> Any:
        by_simplejpeg.append(True)
        return decode_jpeg(*arguments, **options)

    decode_jpeg = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", watched)
    profile = bytes(range(256)) * 300 + b"\xff\xda"  # fills two segments, and looks like a scan
    decode(jpeg(icc_profile=profile))
    check_quadrants(decode(jpeg(quadrants().transpose(Image.Transpose.ROTATE_90), exif=orientation(6))))
    late = jpeg(quadrants().transpose(Image.Transpose.ROTATE_90), icc_profile=profile)
    app1 = jpeg(exif=orientation(6))
    start = app1.index(b"\xff\xe1")
    segment = app1[start : start + 2 + int.from_bytes(app1[start + 2 : start + 4])]
    tables = late.index(b"\xff\xdb")
    check_quadrants(decode(late[:tables] + segment + late[tables:]))
    assert len(by_simplejpeg) == 3
    check_quadrants(decode(jpeg(quadrants().convert("CMYK"))))
    assert len(by_simplejpeg) == 3, "Pillow's"


def refusing(*_: Any, **__: Any) -> NDArray[np.uint8]:
    raise ValueError


def test_a_picture_is_put_into_the_array_given() -> None:
    pixels = np.zeros((2, 13, 19, 3), np.uint8)
    decode(jpeg(), (13, 19), pixels[1])
    assert (pixels[0] == 0).all()
    check_quadrants(pixels[1])


def test_a_resized_pixel_is_the_mean_of_what_it_covers() -> None:
    stripes = np.zeros((100, 100), np.uint8)
    stripes[::2] = 200
    resized = decode(png(Image.fromarray(stripes)), (10, 10))
    assert np.abs(resized.astype(int) - 100).max() < 12, "nearest neighbour would give 0 or 200"


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("size", [None, (150, 150)])
def test_what_is_no_whole_picture_says_why(kind: str, size: tuple[int, int] | None) -> None:
    data, reason = BROKEN[kind]
    with pytest.raises(NotAnImage, match=reason) as caught:
        decode(data(), size)
    assert len(str(caught.value).splitlines()) == 1


def test_the_largest_picture_allowed_is_decoded() -> None:
    side = math.isqrt(MAX_PIXELS)
    assert decode(png(Image.new("1", (side, side))), (10, 10)).shape == (10, 10, 3)
    with pytest.raises(NotAnImage, match="more than"):
        decode(png(Image.new("1", (side, side + 2))), (10, 10))


@pytest.mark.parametrize("size", [None, (150, 150)])
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_a_tiny_jpeg_that_claims_many_pixels_takes_no_memory_for_them(
    progressive: bool, size: tuple[int, int] | None, tmp_path: Path
) -> None:
    """Without the limit it takes 1.2 GB or more, except for a baseline JPEG decoded at an eighth of its width."""
    (tmp_path / "bomb.jpg").write_bytes(jpeg_that_claims(20_000, 20_000, progressive))
    code = """if True:
        import pathlib
        from catsdogs.data.images import NotAnImage, decode

        def peak():
            # Of this program alone: ru_maxrss would include what the process was before it.
            [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
            return int(line.split()[1]) << 10

        decode(pathlib.Path("small.jpg").read_bytes(), SIZE)
        before = peak()
        try:
            decode(pathlib.Path("bomb.jpg").read_bytes(), SIZE)
        except NotAnImage as reason:
            print(peak() - before, reason)
    """
    (tmp_path / "small.jpg").write_bytes(jpeg(progressive=progressive))
    process = subprocess.run(
        [sys.executable, "-c", code.replace("SIZE", repr(size))],
        cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY / "job")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    taken, reason = process.stdout.split(maxsplit=1)
    assert reason == "20000x20000 pixels, more than 64,000,000\n"
    assert int(taken) < 200 << 20


@given(st.sampled_from(sorted(SOUND)), st.data())
@settings(max_examples=400, deadline=None)
def test_damaged_bytes_are_pixels_or_not_a_picture_and_nothing_else(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(SOUND[kind])
    places = st.integers(0, len(damaged) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        damaged[place] = value
    del damaged[data.draw(places | st.just(len(damaged))) :]
    with contextlib.suppress(NotAnImage):
        decode(bytes(damaged), data.draw(st.sampled_from([None, (9, 9)])))


@given(st.lists(CHANGES, max_size=6))
@settings(max_examples=300, deadline=None)
def test_so_are_those_of_a_png_whose_checksums_are_right(changes: list[tuple[int, int, int]]) -> None:
    kinds, bodies = [kind for kind, _ in CHUNKS], [bytearray(body) for _, body in CHUNKS]
    for chunk, place, value in changes:
        if bodies[chunk]:
            bodies[chunk][place % len(bodies[chunk])] = value
    with contextlib.suppress(NotAnImage):
        decode(PNG_SIGNATURE + b"".join(map(png_chunk, kinds, bodies)))
