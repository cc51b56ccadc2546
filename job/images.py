"""From an image file's bytes to pixels, whatever its name claims it is.

One decoder checks the images when the split is built and reads them when the model trains, so that
what passed the check also trains.
"""

import functools
import io
import warnings
from typing import Any

import numpy as np
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


class NotAPicture(Exception):
    """The bytes do not decode to a picture; the text is the reason."""


def decode(data: bytes, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The picture as uint8 RGB, height×width×3, turned as its EXIF orientation says.

    With `size` (height, width) it is resized, its proportions not kept, as in the book: means over whole pixels
    until it is less than twice as large, and from there on bilinear, so that no pixel is passed over. Without, it is
    decoded in full. Raises NotAPicture.
    """
    if not data:
        raise NotAPicture("empty file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise NotAPicture(f"{image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
            if size is not None:
                # JPEG only: decode at 1/2, 1/4 or 1/8, where that is still larger than `size`.
                image.draft("RGB", (size[1], size[0]))
            picture = _rgb(image)
            turn = _turn(image)
    except UnidentifiedImageError:
        raise NotAPicture(f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
    except (NotAPicture, MemoryError):
        raise
    except Exception as error:
        # No list of kinds: on damaged files Pillow raises anything, down to AssertionError and struct.error.
        raise NotAPicture(str(error) or type(error).__name__) from None
    if turn is not None:
        picture = picture.transpose(turn)
    return np.asarray(picture) if size is None else _resized(picture, *size)


def _resized(picture: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    cv2 = opencv()
    whole = (max(1, picture.width // width), max(1, picture.height // height))
    if whole != (1, 1):
        picture = picture.reduce(whole)
    # A seventh of the time of Pillow's, which weighs neighbours anew for any size.
    return np.asarray(cv2.resize(np.asarray(picture), (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


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
