"""From an image file's bytes to pixels, whatever the name claims.

One decoder checks the images when the split is built and reads them for training, so an image that passes the check can
be trained on. What it accepts is part of the rule of the split: see `assignment.RULE`. Images that are only predicted
belong to no split; for them, more formats are decoded.

The decoders are native code, so an image's own headers decide first (`headers`) whether a decoder sees it, which one,
and how much memory it needs (`budget`). Of the kinds of JPEG, only those coded in blocks of 8×8 with 8 bits a sample
get through: libjpeg-turbo before 3.1.4.1 ignores the scale of a lossless one, and writes past the end of the buffer.
"""

import contextlib
import ctypes
import functools
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import AvifImagePlugin, ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from catsdogs.data import avif, headers, image_formats, tiff
from catsdogs.data.budget import DECODING, MAX_DECODING
from catsdogs.data.headers import Frame

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
"""Of a split's images. A change is one of `assignment.RULE`: an archive could give another split."""
MORE_FORMATS = (*FORMATS, "TIFF", "AVIF")
"""Of images that are predicted."""
MAX_PIXELS = 64_000_000
"""A larger image counts as a decompression bomb. Photos of 50 megapixels have 8160×6144."""
MAX_TEXT = 4 << 20
"""Bytes of text in a PNG, inflated."""

Pixels = NDArray[np.uint8]

_LEAST = (1, 1)
"""The size that lets a JPEG be decoded at an eighth."""
_Box = tuple[int, int, int, int]
"""Left, top, right and bottom."""

_BAND = 1 << 18
"""Pixels that are converted, turned and reduced at once."""
_ROW = 100
"""Bytes of buffers that libjpeg has for each column of the image."""
_PILLOW_WEBP = 20
"""Bytes a pixel that Pillow holds of a WebP: the animation decoder's two canvases, libwebp's own pixels for a lossless
one, a copy, and the image."""
_OPENCV_WEBP = 8
"""Bytes a pixel that OpenCV holds of a WebP: libwebp's own pixels or a copy, and the image."""
_AVIF = 10
"""Bytes that Pillow holds for each pixel of an AVIF, and for each of the pictures that it is made of."""
_SMALL_WEBP = 4_000_000
"""Pixels of a WebP up to which Pillow decodes it. OpenCV, whose import takes 60 MB, gives the same pixels."""

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
_SIDEWAYS = {
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
}
"""Those whose first row is a column of the stored image."""
_FROM_THE_END = {
    Image.Transpose.ROTATE_90,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
}
"""Those whose first row is the last row, or column, of the stored image."""

# Our own limit is checked before anything is decoded; Pillow's would raise another exception.
Image.MAX_IMAGE_PIXELS = None
PngImagePlugin.MAX_TEXT_MEMORY = MAX_TEXT
# We have threads of our own, and each of the decoder's takes memory.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
# In blocks of 16 MB, Pillow's default, large images come from malloc's heaps, of which each thread has one, and
# malloc_trim leaves what is free at a heap's end: up to 64 MB. Blocks above 32 MB always come from the system.
Image.core.set_block_size(64 << 20)  # type: ignore[attr-defined]
# Warnings about broken EXIF data in images that decode; the archives have hundreds of them.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


class NotAnImage(Exception):
    """The bytes do not decode to an image; the text is the reason."""


def decode(
    data: bytes, size: tuple[int, int] | None = None, into: Pixels | None = None, more_formats: bool = False
) -> Pixels:
    """Return the image as uint8 RGB, height×width×3, turned according to its EXIF orientation. Raises NotAnImage.

    With `size` (height, width) it is resized without keeping its proportions, as in the book: by means over whole
    pixels to less than twice the size, and from there bilinearly, so that every pixel counts. The result is written to
    `into`, an array of that size, if given. Of FORMATS, or of MORE_FORMATS. Thread-safe; waits while other threads'
    images fill the memory for them.
    """
    image = _opened(data, more_formats)
    with DECODING.reserve(image.memory(size)):
        pixels = _upright(image, size)
        return pixels if size is None else _resized(pixels, *size, into)


def check(data: bytes) -> None:
    """Raise NotAnImage unless `decode` returns pixels, in whatever size.

    A JPEG is decoded at an eighth of its size, which reads every byte of it, in less time and memory.
    """
    image = _opened(data)
    with DECODING.reserve(image.memory(_LEAST)):
        _walk(image)


@dataclass(frozen=True)
class _Stored:
    """A decoded image, as it is stored: not turned."""

    width: int
    height: int
    crop: Callable[[_Box], Image.Image]
    """Returns a part in RGB."""
    turn: Image.Transpose | None
    """What makes it upright."""
    pixels: Pixels | None = None
    """All of it, if it is an array."""

    @classmethod
    def of_array(cls, pixels: Pixels, turn: Image.Transpose | None) -> "_Stored":
        def crop(box: _Box) -> Image.Image:
            left, top, right, bottom = box
            return Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))

        return cls(pixels.shape[1], pixels.shape[0], crop, turn, pixels if pixels.flags.c_contiguous else None)

    @classmethod
    def of_image(cls, image: Image.Image) -> "_Stored":
        image.load()
        if image.mode == "P" and image.palette is None:
            raise NotAnImage("a palette image without its palette")
        return cls(image.width, image.height, lambda box: _rgb(image.crop(box)), _turn(image))


class _Jpeg:
    """A JPEG that is not decoded yet. Raises NotAnImage for a kind that no decoder is to see, or that is too large."""

    def __init__(self, data: bytes, frame: Frame):
        self._data, self._frame = data, frame
        if frame.marker not in headers.DCT:
            raise NotAnImage(f"a lossless or hierarchical JPEG ({frame.kind}); save it as a baseline JPEG")
        if frame.precision != 8:
            raise NotAnImage(f"a JPEG of {frame.precision} bits a sample; save it with 8")
        if not frame.one_scan and headers.jpeg_scans(data) > headers.MAX_SCANS:
            raise NotAnImage(f"a JPEG of more than {headers.MAX_SCANS} scans; save it as a baseline JPEG")
        _check_size(frame.width, frame.height, self.memory(_LEAST))

    def _scale(self, size: tuple[int, int] | None) -> int:
        """Return the part, 1/1 to 1/8, at which it is still larger than `size`."""
        least = 1 if size is None else min(self._frame.height // size[0], self._frame.width // size[1])
        return max(scale for scale in (1, 2, 4, 8) if scale <= max(1, least))

    def memory(self, size: tuple[int, int] | None) -> int:
        """Return the bytes that decoding takes at most."""
        frame, scale = self._frame, self._scale(size)
        # Pillow holds RGB in four bytes a pixel. Unless one scan has it all, libjpeg holds the coefficients.
        pixels = 4 * math.ceil(frame.height / scale) * math.ceil(frame.width / scale)
        return len(self._data) + pixels + (0 if frame.one_scan else 2 * frame.samples) + _ROW * frame.width

    def decoded(self, size: tuple[int, int] | None) -> _Stored:
        """Return it decoded at 1/1, 1/2, 1/4 or 1/8, as long as that is larger than `size`."""
        image = self._opened() if self._frame.may_be_turned else None
        if (pixels := self._quickly(self._scale(size))) is not None:
            return _Stored.of_array(pixels, None if image is None else _turn(image))
        if image is None:
            image = self._opened()
        if size is not None:
            image.draft("RGB", (size[1], size[0]))
        return _Stored.of_image(image)

    def _opened(self) -> Image.Image:
        image = Image.open(io.BytesIO(self._data), formats=("JPEG",))
        if (image.width, image.height) != (self._frame.width, self._frame.height):
            raise NotAnImage("its headers contradict each other")
        return image

    def _quickly(self, scale: int) -> Pixels | None:
        """Return the pixels that Pillow would give, in less than half the time, or None unless it is a sound JPEG.

        Pillow does more of its work in Python, where threads wait for each other.
        """
        if self._frame.marker in headers.ARITHMETIC:
            return None
        height, width = math.ceil(self._frame.height / scale), math.ceil(self._frame.width / scale)
        try:
            header = simplejpeg.decode_jpeg_header(self._data)
            if header[:2] != (self._frame.height, self._frame.width) or header[2] not in ("YCbCr", "RGB", "Gray"):
                return None
            # A buffer of our own: simplejpeg refuses one that is smaller than what it reads from the headers itself.
            buffer = _buffer(height * width * 3)
            pixels: Pixels = simplejpeg.decode_jpeg(
                self._data, "RGB", min_height=height, min_width=width, buffer=buffer
            )
        except ValueError:
            # Pillow tolerates some of these errors, and describes the others.
            return None
        return pixels


class _Other:
    """An image of another format that is not decoded yet. Raises NotAnImage if it is too large."""

    def __init__(self, data: bytes):
        self._data = data
        image = self._opened()
        if image.format in ("JPEG", "MPO"):
            raise NotAnImage("a JPEG with damaged headers")
        each = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
        if image.format in ("GIF", "BMP"):
            # A GIF's frame is put on its canvas; Python decodes what a BMP's run lengths stand for.
            each *= 3
        self._memory = len(data) + each * image.width * image.height
        _check_size(image.width, image.height, self._memory)

    def memory(self, size: tuple[int, int] | None) -> int:
        """Return the bytes that decoding takes at most, in whatever size."""
        return self._memory

    def decoded(self, size: tuple[int, int] | None) -> _Stored:
        return _Stored.of_image(self._opened())

    def _opened(self) -> Image.Image:
        return Image.open(io.BytesIO(self._data), formats=FORMATS)


class _WebP:
    """A WebP that is not decoded yet. Raises NotAnImage if it is too large."""

    def __init__(self, data: bytes, header: headers.WebP):
        self._data, self._header = data, header
        self._by_pillow = header.animated or header.width * header.height <= _SMALL_WEBP
        _check_size(header.width, header.height, self.memory(None))

    def memory(self, size: tuple[int, int] | None) -> int:
        """Return the bytes that decoding takes at most, in whatever size."""
        each = _PILLOW_WEBP if self._by_pillow else _OPENCV_WEBP
        return 3 * len(self._data) + each * self._header.width * self._header.height

    def decoded(self, size: tuple[int, int] | None) -> _Stored:
        # Before it decodes a frame, Pillow's memory for the pixels is only claimed.
        image = Image.open(io.BytesIO(self._data), formats=("WEBP",))
        if (image.width, image.height) != (self._header.width, self._header.height):
            raise NotAnImage("its headers contradict each other")
        if self._by_pillow:
            return _Stored.of_image(image)
        turn = _turn(image)
        del image
        cv2 = opencv()
        pixels = cv2.imdecode(np.frombuffer(self._data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is None or pixels.shape != (self._header.height, self._header.width, 3):
            raise NotAnImage("broken data stream when reading image file")
        return _Stored.of_array(pixels[..., ::-1], turn)


class _Tiff:
    """The first page of a TIFF that is not decoded yet. Raises NotAnImage if it is too large."""

    def __init__(self, data: bytes, header: tiff.Tiff):
        self._data, self._header = data, header
        _check_size(header.width, header.height, 0)
        mode = self._opened().mode
        each = 1 if mode in ("1", "L", "P") else 2 if mode.startswith("I;16") else 4
        # The file and the copy; libtiff maps it, and inflates a strip at a time.
        self._memory = 2 * len(data) + header.piece + each * header.width * header.height
        _check_size(header.width, header.height, self._memory)

    def memory(self, size: tuple[int, int] | None) -> int:
        """Return the bytes that decoding takes at most, in whatever size."""
        return self._memory

    def decoded(self, size: tuple[int, int] | None) -> _Stored:
        return replace(_Stored.of_image(self._opened()), turn=_TURNS.get(self._header.orientation))

    def _opened(self) -> Image.Image:
        _silence_libtiff()
        return _open_as("TIFF", tiff.copy(self._data, self._header))


class _Avif:
    """An AVIF that is not decoded yet. Raises NotAnImage if it is too large, or if this Pillow decodes none."""

    def __init__(self, data: bytes, header: avif.Avif):
        self._data, self._header = data, header
        if not AvifImagePlugin.SUPPORTED:
            raise NotAnImage("an AVIF, which the installed Pillow cannot decode; save it as a JPEG")
        if self.memory(None) > MAX_DECODING:
            raise NotAnImage(
                f"an AVIF of {header.claimed:,} pixels that takes {self.memory(None):,} bytes to decode, more than"
                f" {MAX_DECODING:,}; make it smaller, or save it as a baseline JPEG"
            )

    def memory(self, size: tuple[int, int] | None) -> int:
        """Return the bytes that decoding takes at most, in whatever size."""
        return 2 * len(self._data) + _AVIF * (self._header.claimed + self._header.coded)

    def decoded(self, size: tuple[int, int] | None) -> _Stored:
        image = _open_as("AVIF", self._data)
        if not 0 < image.width * image.height <= self._header.claimed:
            raise NotAnImage("its headers contradict each other")
        return _Stored.of_image(image)


def _open_as(kind: str, data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=(kind,))
    except UnidentifiedImageError:
        raise NotAnImage(f"damaged {kind} headers") from None


@functools.cache
def _silence_libtiff() -> None:
    """Stop libtiff from writing to standard error what is wrong with a file, without its name."""
    with contextlib.suppress(OSError, AttributeError):
        maps = Path("/proc/self/maps").read_text().splitlines()
        for path in {line.split(maxsplit=5)[5] for line in maps if "/libtiff" in line}:
            ctypes.CDLL(path).TIFFSetErrorHandler(None)


_Opened = _Jpeg | _Other | _WebP | _Tiff | _Avif


def _opened(data: bytes, more_formats: bool = False) -> _Opened:
    """Return the image, of which only headers are read so far. Raises NotAnImage."""
    if not data:
        raise NotAnImage("empty file")
    with _reasons(MORE_FORMATS if more_formats else FORMATS):
        if frame := headers.jpeg_frame(data):
            return _Jpeg(data, frame)
        if header := headers.webp(data):
            return _WebP(data, header)
        if image := _of_more_formats(data, more_formats):
            return image
        headers.check_parts(data)
        return _Other(data)


def _of_more_formats(data: bytes, more_formats: bool) -> _Tiff | _Avif | None:
    """Return the image if it is one of MORE_FORMATS, not of FORMATS; None for FORMATS. Raises NotAnImage."""
    kind = image_formats.kind(data[: image_formats.LENGTH])
    if kind is None or kind in FORMATS:
        return None
    if not more_formats or kind not in MORE_FORMATS:
        raise NotAnImage(f"a {kind} image, which is not decoded; save it as a JPEG or PNG")
    if kind == "TIFF" and (tiff_header := tiff.header(data)):
        return _Tiff(data, tiff_header)
    if kind == "AVIF" and (avif_header := avif.header(data)):
        return _Avif(data, avif_header)
    raise NotAnImage(f"damaged {kind} headers")


def _check_size(width: int, height: int, memory: int) -> None:
    """Raise NotAnImage if the image has too many pixels, or cannot be decoded in the memory there is for it."""
    if width * height == 0:
        raise NotAnImage("an image without pixels")
    if width * height > MAX_PIXELS:
        raise NotAnImage(f"{width}x{height} pixels, more than {MAX_PIXELS:,}")
    if memory > MAX_DECODING:
        raise NotAnImage(
            f"{width}x{height} pixels that take {memory:,} bytes to decode, more than {MAX_DECODING:,};"
            " make it smaller, or save it as a baseline JPEG"
        )


@contextlib.contextmanager
def _reasons(formats: Sequence[str] = FORMATS) -> Iterator[None]:
    """Turn whatever is raised in the block into NotAnImage, except for MemoryError."""
    try:
        yield
    except UnidentifiedImageError:
        raise NotAnImage(f"no {', '.join(formats[:-1])} or {formats[-1]} image") from None
    except (NotAnImage, MemoryError):
        raise
    except Exception as error:
        # Any exception: on damaged files Pillow raises even AssertionError and struct.error.
        raise NotAnImage(str(error) or type(error).__name__) from None


def _walk(image: _Opened) -> None:
    """Decode the image and convert all of it, as `_upright` does."""
    with _reasons():
        stored = image.decoded(_LEAST)
        rows = _rows(stored.width)
        for top in range(0, stored.height, rows):
            stored.crop((0, top, stored.width, min(stored.height, top + rows)))


def _upright(image: _Opened, size: tuple[int, int] | None) -> Pixels:
    """Return the image, decoded, turned, and reduced to less than twice the size.

    It is turned and reduced in bands, so that no second image of its size is in memory.
    """
    with _reasons():
        stored = image.decoded(size)
        turn = stored.turn
        width, height = stored.width, stored.height
        if turn in _SIDEWAYS:
            width, height = height, width
        across, down = (1, 1) if size is None else (max(1, width // size[1]), max(1, height // size[0]))
        if stored.pixels is not None and turn is None and (across, down) == (1, 1):
            return stored.pixels
        reduced = np.empty((math.ceil(height / down), math.ceil(width / across), 3), np.uint8)
        rows = _rows(width * down) * down
        for top in range(0, height, rows):
            band = stored.crop(_before_turning(turn, stored, top, min(height, top + rows)))
            if turn is not None:
                band = band.transpose(turn)
            if (across, down) != (1, 1):
                band = band.reduce((across, down))
            reduced[top // down :][: band.height] = np.asarray(band)
        return reduced


def _resized(pixels: Pixels, height: int, width: int, into: Pixels | None) -> Pixels:
    cv2 = opencv()
    # It takes a seventh of the time of Pillow's, which computes the weights for each call.
    return np.asarray(cv2.resize(pixels, (width, height), into, interpolation=cv2.INTER_LINEAR), np.uint8)


def _rows(width: int) -> int:
    return max(1, _BAND // width)


def _before_turning(turn: Image.Transpose | None, stored: _Stored, top: int, bottom: int) -> _Box:
    """Return where the rows top ≤ y < bottom of the upright image lie in the stored one."""
    length = stored.width if turn in _SIDEWAYS else stored.height
    if turn in _FROM_THE_END:
        top, bottom = length - bottom, length - top
    return (top, 0, bottom, stored.height) if turn in _SIDEWAYS else (0, top, stored.width, bottom)


def _buffer(size: int) -> Pixels:
    return np.empty(size, np.uint8)


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
    if image.mode in ("RGBa", "La"):
        # Pillow converts colours that are multiplied by their opacity in two steps.
        image = image.convert(image.mode.upper())
    return image.convert("RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    # ImageOps.exif_transpose rewrites the EXIF data, and fails if those of a sound image are odd.
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return None
