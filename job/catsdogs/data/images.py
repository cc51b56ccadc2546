"""From an image file's bytes to pixels, whatever its name claims it is.

One decoder checks the images when the split is built and reads them when the model trains, so that
what passed the check also trains.
"""

import functools
import io
import warnings
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
MAX_PIXELS = 50_000_000
"""More is taken for a decompression bomb: RGB pixels of it would fill 150 MB."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what undoes it."""

# Our own limit is checked before anything is decoded; Pillow's would be an exception of another kind.
Image.MAX_IMAGE_PIXELS = None
# Complaints about broken EXIF data of images that decode; there are hundreds in the archives.
warnings.filterwarnings("ignore", module=r"PIL\.")


class NotAnImage(Exception):
    """The bytes do not decode to a picture; the text is the reason."""


def decode(
    data: bytes, size: tuple[int, int] | None = None, into: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """The picture as uint8 RGB, height×width×3, turned as its EXIF orientation says.

    With `size` (height, width) it is resized, its proportions not kept, as in the book: means over whole pixels
    until it is less than twice as large, and from there on bilinear, so that no pixel is passed over; the pixels are
    put `into` an array of that size if one is given. Without `size` it is decoded in full. Raises NotAnImage.
    """
    if not data:
        raise NotAnImage("empty file")
    pixels = _plain_jpeg(data, size)
    if pixels is None:
        pixels = _any_picture(data, size)
    return pixels if size is None else _resized(pixels, *size, into)


def _plain_jpeg(data: bytes, size: tuple[int, int] | None) -> NDArray[np.uint8] | None:
    """The pixels that Pillow would make of it, in less than half the time; None if it is anything but a sound JPEG
    that stands upright.

    Pillow has much more to do in Python, where one thread waits for the other.
    """
    if not _stands_upright(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "RGB", "Gray") or height * width > MAX_PIXELS:
            return None
        least = 1 if size is None else max(1, min(height // size[0], width // size[1]))
        part = max(part for part in (1, 2, 4, 8) if part <= least)
        found: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", min_height=-(-height // part), min_width=-(-width // part)
        )
    except ValueError:
        # Of what it calls an error Pillow forgives some, and names the others.
        return None
    return found


def _stands_upright(data: bytes) -> bool:
    """Whether it is a JPEG without EXIF data or XMP, which may say that it is turned."""
    if data[:3] != b"\xff\xd8\xff":
        return False
    place, app1, scan = 2, b"\xff\xe1", b"\xff\xda"
    while (marker := data[place : place + 2]) not in (app1, scan) and marker[:1] == b"\xff":
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return marker == scan


def _any_picture(data: bytes, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Upright, and not much larger than `size` where it can be decoded so. Raises NotAnImage."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise NotAnImage(f"{image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
            if size is not None:
                # JPEG only: decode at 1/2, 1/4 or 1/8, where that is still larger than `size`.
                image.draft("RGB", (size[1], size[0]))
            picture = _rgb(image)
            turn = _turn(image)
    except UnidentifiedImageError:
        raise NotAnImage(f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
    except (NotAnImage, MemoryError):
        raise
    except Exception as error:
        # No list of kinds: on damaged files Pillow raises anything, down to AssertionError and struct.error.
        raise NotAnImage(str(error) or type(error).__name__) from None
    return np.asarray(picture if turn is None else picture.transpose(turn))


def _resized(pixels: NDArray[np.uint8], height: int, width: int, into: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    cv2 = opencv()
    whole = (max(1, pixels.shape[1] // width), max(1, pixels.shape[0] // height))
    if whole != (1, 1):
        pixels = np.asarray(Image.fromarray(pixels).reduce(whole))
    # A seventh of the time of Pillow's, which weighs neighbours anew for any size.
    return np.asarray(cv2.resize(pixels, (width, height), into, interpolation=cv2.INTER_LINEAR), np.uint8)


@functools.cache
def opencv() -> Any:
    """The module, imported when first used: whoever only checks images does not wait for it."""
    import cv2

    # The generators' threads are enough.
    cv2.setNumThreads(1)
    return cv2


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's conversion clips: whatever is brighter than 255 of 65535 would be white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    # ImageOps.exif_transpose writes the EXIF data anew, and fails where those of a sound picture are odd.
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return None
