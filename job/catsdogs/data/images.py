"""From an image file's bytes to pixels, whatever the name claims.

One decoder checks the images when the split is built and reads them for training, so an image that passes the check can
be trained on. What it accepts is part of the rule of the split: see `assignment.RULE`.
"""

import functools
import io
import warnings
from types import ModuleType

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
MAX_PIXELS = 50_000_000
"""A larger image counts as a decompression bomb: 50 million RGB pixels take 150 MB."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → the transposition that undoes it."""

# Our own limit is checked before anything is decoded; Pillow's would raise another exception.
Image.MAX_IMAGE_PIXELS = None
# Warnings about broken EXIF data in images that decode; the archives have hundreds of them.
warnings.filterwarnings("ignore", module=r"PIL\.")


class NotAnImage(Exception):
    """The bytes do not decode to an image; the text is the reason."""


def decode(
    data: bytes, size: tuple[int, int] | None = None, into: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Return the image as uint8 RGB, height×width×3, turned according to its EXIF orientation. Raises NotAnImage.

    With `size` (height, width) it is resized without keeping its proportions, as in the book: by means over whole
    pixels to less than twice the size, and from there bilinearly, so that every pixel counts. The result is written to
    `into`, an array of that size, if given.
    """
    if not data:
        raise NotAnImage("empty file")
    pixels = _plain_jpeg(data, size)
    if pixels is None:
        pixels = _any_image(data, size)
    return pixels if size is None else _resized(pixels, *size, into)


def _plain_jpeg(data: bytes, size: tuple[int, int] | None) -> NDArray[np.uint8] | None:
    """Return the pixels that Pillow would give, in less than half the time, or None unless it is a sound, upright JPEG.

    Pillow does more of its work in Python, where threads wait for each other.
    """
    if not _is_upright_jpeg(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "RGB", "Gray") or height * width > MAX_PIXELS:
            return None
        least = 1 if size is None else max(1, min(height // size[0], width // size[1]))
        part = max(part for part in (1, 2, 4, 8) if part <= least)
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", min_height=-(-height // part), min_width=-(-width // part)
        )
    except ValueError:
        # Pillow tolerates some of these errors, and describes the others.
        return None
    return pixels


def _is_upright_jpeg(data: bytes) -> bool:
    """Whether it is a JPEG without EXIF or XMP data, which could give an orientation."""
    if data[:3] != b"\xff\xd8\xff":
        return False
    place, app1, scan = 2, b"\xff\xe1", b"\xff\xda"
    while (marker := data[place : place + 2]) not in (app1, scan) and marker[:1] == b"\xff":
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return marker == scan


def _any_image(data: bytes, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Return the image as Pillow decodes it, upright, and not much larger than `size` if the format allows it.

    Raises NotAnImage.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise NotAnImage(f"{image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
            if size is not None:
                # JPEG only: decode at 1/2, 1/4 or 1/8, as long as that is larger than `size`.
                image.draft("RGB", (size[1], size[0]))
            rgb = _rgb(image)
            turn = _turn(image)
    except UnidentifiedImageError:
        raise NotAnImage(f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
    except (NotAnImage, MemoryError):
        raise
    except Exception as error:
        # Any exception: on damaged files Pillow raises even AssertionError and struct.error.
        raise NotAnImage(str(error) or type(error).__name__) from None
    return np.asarray(rgb if turn is None else rgb.transpose(turn))


def _resized(pixels: NDArray[np.uint8], height: int, width: int, into: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    cv2 = opencv()
    whole = (max(1, pixels.shape[1] // width), max(1, pixels.shape[0] // height))
    if whole != (1, 1):
        pixels = np.asarray(Image.fromarray(pixels).reduce(whole))
    # It takes a seventh of the time of Pillow's, which computes the weights for each call.
    return np.asarray(cv2.resize(pixels, (width, height), into, interpolation=cv2.INTER_LINEAR), np.uint8)


@functools.cache
def opencv() -> ModuleType:
    """Return the module cv2, imported when first used: a check of images does without it."""
    import cv2

    # The data loader has threads of its own.
    cv2.setNumThreads(1)
    return cv2


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's conversion clips: everything brighter than 255 of 65535 would be white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    # ImageOps.exif_transpose rewrites the EXIF data, and fails if those of a sound image are odd.
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return None
