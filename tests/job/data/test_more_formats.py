"""What `catsdogs predict` decodes besides the formats of a split: TIFF and AVIF, and what names and first bytes say."""

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image

from catsdogs.data import avif, image_formats, tiff
from catsdogs.data.images import FORMATS, MORE_FORMATS, NotAnImage, check, decode
from tests.job.data.test_images import (
    HEIGHT,
    WIDTH,
    check_quadrants,
    file_of,
    jpeg,
    orientation,
    png,
    quadrants,
    ramp,
    translucent,
)

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

DEEP = np.asarray(ramp()).astype(np.uint16) * 257
UNTURNED = {
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


def tif(picture: Image.Image | None = None, **options: Any) -> bytes:
    return file_of(picture or quadrants(), "TIFF", **options)


def av1(picture: Image.Image | None = None, **options: Any) -> bytes:
    return file_of(picture or quadrants(), "AVIF", quality=95, speed=10, **options)


def turned(save: Callable[..., bytes], value: int, **options: Any) -> bytes:
    """A file in which the picture is stored turned, with an EXIF orientation that says so."""
    by = UNTURNED[value]
    return save(quadrants() if by is None else quadrants().transpose(by), exif=orientation(value), **options)


def multiplied() -> bytes:
    """A TIFF whose colours are multiplied by their opacity, here 1."""
    data = tif(quadrants().convert("RGBA"))
    entry = b"\x52\x01\x03\x00\x01\x00\x00\x00"
    assert data.count(entry + b"\2\0") == 1
    return data.replace(entry + b"\2\0", entry + b"\1\0")


def tiled() -> bytes:
    """A TIFF of uncompressed tiles, which go beyond the picture's edge."""
    side, padded = 16, quadrants().crop((0, 0, 48, 32))
    places = [(left, top) for top in (0, 16) for left in (0, 16, 32)]
    tiles = [padded.crop((left, top, left + side, top + side)).tobytes() for left, top in places]
    size = len(tiles[0])
    data = struct.pack("<3H6I6I", 8, 8, 8, *(8 + 54 + index * size for index in range(6)), *[size] * 6) + b"".join(
        tiles
    )
    tags = [
        (256, 4, 1, WIDTH), (257, 4, 1, HEIGHT), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, 3),
        (322, 4, 1, side), (323, 4, 1, side), (324, 4, 6, 14), (325, 4, 6, 38),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


PICTURES: dict[str, Callable[[], bytes]] = {
    **{
        f"tiff, {name}": partial(tif, compression=name)
        for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits")
    },
    "tiff with 64-bit offsets": lambda: tif(big_tiff=True),
    "tiff of tiles": tiled,
    "tiff, predictor": lambda: tif(compression="tiff_lzw", tiffinfo={317: 2}),
    "tiff, palette": lambda: tif(quadrants().quantize(16)),
    "tiff, transparent": lambda: tif(translucent()),
    "tiff, opacity multiplied": multiplied,
    "tiff, cmyk": lambda: tif(quadrants().convert("CMYK")),
    "tiff of two pages": lambda: tif(save_all=True, append_images=[Image.new("RGB", (9, 9))]),
    **{
        f"tiff, turned {value}, {name}": partial(turned, tif, value, compression=name)
        for value in UNTURNED
        for name in ("raw", "tiff_lzw")
    },
    "avif": av1,
    "avif, not subsampled": lambda: av1(subsampling="4:4:4"),
    "avif, transparent": lambda: av1(translucent()),
    **{f"avif, turned {value}": partial(turned, av1, value) for value in UNTURNED},
}  # fmt: skip
GRAYS: dict[str, Callable[[], bytes]] = {
    "tiff": lambda: tif(ramp()),
    "tiff, 16 bits": lambda: tif(Image.fromarray(DEEP), compression="tiff_lzw"),
    "tiff, 16 bits, big-endian": lambda: tif(Image.fromarray(DEEP.astype(">u2"))),
    "tiff, gray and transparent": lambda: tif(ramp().convert("LA")),
    "avif": lambda: av1(ramp()),
}


def iso(*brands: bytes) -> bytes:
    return (8 + 4 * len(brands) + 4).to_bytes(4) + b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:]) + bytes(300)


UNSUPPORTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "heic": (lambda: iso(b"heic", b"mif1", b"heic"), "a HEIC image, which is not decoded; save it as a JPEG or PNG"),
    "heic by a compatible brand": (lambda: iso(b"mif1", b"heix"), "a HEIC image, which"),
    "jpeg xl": (lambda: b"\xff\x0a" + bytes(50), "a JPEG XL image, which"),
    "jpeg xl in a container": (lambda: b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "a JPEG XL image, which"),
    "jpeg 2000": (lambda: file_of(quadrants(), "JPEG2000"), "a JPEG 2000 image, which"),
    "photoshop": (lambda: b"8BPS\0\1" + bytes(50), "a Photoshop image, which"),
    "canon's raw": (lambda: b"II*\0\x10\0\0\0CR\2\0" + bytes(50), "a camera raw image, which"),
    "canon's newer raw": (lambda: iso(b"crx ", b"crx ", b"isom"), "a camera raw image, which"),
    "fuji's raw": (lambda: b"FUJIFILMCCD-RAW 0201" + bytes(50), "a camera raw image, which"),
    "raw in a tiff": (lambda: tif(tiffinfo={254: 1}), "a camera's raw photo; save it as a JPEG"),
    "jpeg in a tiff": (lambda: tif(compression="jpeg"), "a TIFF of compression 7; save it with LZW, or as a JPEG"),
    "floats in a tiff": (
        lambda: tif(quadrants().convert("F")),
        "a TIFF whose samples are not natural numbers of up to",
    ),
    "32 bits in a tiff": (
        lambda: tif(quadrants().convert("I")),
        "a TIFF whose samples are not natural numbers of up to",
    ),
    "fax in a tiff": (lambda: tif(quadrants().convert("1"), compression="group4"), "a TIFF of compression 4; save"),
    "avif of two": (
        lambda: av1(save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))]),
        "an AVIF of several pictures; save the first as a JPEG",
    ),
    "half a tiff": (lambda: tif()[: len(tif()) // 2], "image file is truncated"),
    "half a tiff, headers last": (
        lambda: (lzw := tif(compression="tiff_lzw"))[: len(lzw) // 2],
        "damaged TIFF headers",
    ),
    "half an avif": (lambda: av1()[: len(av1()) // 2], "damaged AVIF headers"),
    "text": (lambda: b"cat\n" * 50, "no JPEG, PNG, GIF, BMP, WEBP, TIFF or AVIF image"),
}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("size", [None, (150, 150), (13, 19)])
def test_every_kind_of_picture_shows_what_was_drawn(kind: str, size: tuple[int, int] | None) -> None:
    pixels = decode(PICTURES[kind](), size, more_formats=True)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*(size or (HEIGHT, WIDTH)), 3)
    check_quadrants(pixels)


@pytest.mark.parametrize("kind", GRAYS)
def test_a_gray_picture_keeps_its_brightness(kind: str) -> None:
    pixels = decode(GRAYS[kind](), more_formats=True)
    assert np.abs(pixels.astype(int) - np.asarray(ramp())[..., None]).max() < 5


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_what_is_not_decoded_says_what_it_is_and_what_to_do(kind: str) -> None:
    make, reason = UNSUPPORTED[kind]
    with pytest.raises(NotAnImage) as error:
        decode(make(), (9, 9), more_formats=True)
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize("make", [tif, av1])
def test_a_split_has_the_formats_that_it_always_had(make: Callable[[], bytes]) -> None:
    """With another format, the same archive could give another split: one of another version of the rule."""
    assert FORMATS == ("JPEG", "PNG", "GIF", "BMP", "WEBP")
    for function in (check, decode):
        with pytest.raises(NotAnImage, match=r"a (TIFF|AVIF) image, which is not decoded; save it"):
            function(make())


def test_a_pillow_without_avif_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    with pytest.raises(NotAnImage, match="an AVIF, which the installed Pillow cannot decode; save it as a JPEG"):
        decode(av1(), more_formats=True)


def test_headers_agree_with_the_decoder() -> None:
    """They decide how much memory there is for it."""
    for size in ((1, 1), (2, 3), (127, 65), (640, 480)):
        picture, transparent = Image.new("RGB", size), Image.new("RGBA", size, (1, 2, 3, 4))
        read = tiff.header(tif(picture, compression="tiff_lzw"))
        assert read is not None
        assert (read.width, read.height) == size
        assert avif.header(av1(picture)) == (size[0] * size[1], size[0] * size[1])
        assert avif.header(av1(transparent)) == (size[0] * size[1], 2 * size[0] * size[1])


@pytest.mark.parametrize("kind", MORE_FORMATS)
def test_first_bytes_name_the_format(kind: str) -> None:
    assert image_formats.kind(file_of(quadrants(), kind)[: image_formats.LENGTH]) == kind


@pytest.mark.parametrize(
    "start",
    [b"", b"B", b"BM", b"BMW is a make of cars, and this is a text", b"RIFF\0\0\0\0WAVEfmt ", iso(b"isom", b"mp42"),
     iso(b"qt  "), b"PK\3\4", b"%PDF-1.7", b"\0" * 300, "\ufeffcat".encode("utf-16")],
)  # fmt: skip
def test_other_files_are_no_images(start: bytes) -> None:
    assert image_formats.kind(start[: image_formats.LENGTH]) is None


def test_formats_are_decided_by_few_bytes() -> None:
    for data in (jpeg(), png(), tif(), av1()):
        assert image_formats.kind(data[:40]) is not None
