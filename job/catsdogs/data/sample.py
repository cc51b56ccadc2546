"""A drawn archive in Kaggle's layout, for the demo and the tests.

Both classes share furs, poses and rooms, so no single pixel and no average colour separates them: only a cat's pointed
ears and whiskers, and a dog's hanging ears, muzzle and tongue do.
"""

import colorsys
import io
import math
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from catsdogs.data.labels import CLASSES

Colour = tuple[int, int, int]
Point = tuple[float, float]


_FURS: tuple[Colour, ...] = (
    (226, 148, 76),  # ginger
    (146, 146, 156),  # grey
    (84, 76, 82),  # soot
    (238, 216, 176),  # cream
    (142, 96, 64),  # chestnut
    (240, 236, 228),  # white
)
_INK: Colour = (44, 36, 40)
_PINK: Colour = (236, 138, 150)
_WHITE: Colour = (255, 255, 255)

_OVERSAMPLING = 2
_JPEG_QUALITY = 90
_DATE = (2013, 9, 25, 0, 0, 0)
"""The time stamp of every member; the current time would make the bytes of each archive differ."""


def draw(label: str, number: int, size: tuple[int, int] = (200, 200)) -> Image.Image:
    """Return the `number`-th "cat" or "dog", counted from 0, in RGB; `size` is width and height in pixels.

    The same arguments give the same pixels. Raises KeyError for another label.
    """
    animal = {"cat": _cat, "dog": _dog}[label]
    rng = np.random.default_rng([CLASSES.index(label), number])
    image = Image.new("RGB", (size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING))
    _room(image, rng)
    animal(_Sketch(image, rng), _fur(rng), rng)
    return _grainy(image.reduce(_OVERSAMPLING), rng)


def write_archive(path: Path, per_class: int, unlabelled: int = 8, *, inner: int = zipfile.ZIP_DEFLATED) -> None:
    """Write `dogs-vs-cats.zip`: `per_class` cats and as many dogs to train on, and `unlabelled` images.

    `inner` is the compression of the inner zips: Kaggle's are deflated, although that gains nothing. The same arguments
    give the same bytes. Raises OSError.
    """
    training = (
        (f"train/{label}.{number}.jpg", draw(label, number)) for label in CLASSES for number in range(per_class)
    )
    unseen = (
        (f"test1/{number}.jpg", draw(CLASSES[number % 2], per_class + number)) for number in range(1, unlabelled + 1)
    )
    submission = "id,label\n" + "".join(f"{number},0\n" for number in range(1, unlabelled + 1))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(_member("train.zip", inner), _zip_of_images("train/", training))
        archive.writestr(_member("test1.zip", inner), _zip_of_images("test1/", unseen))
        archive.writestr(_member("sampleSubmission.csv"), submission)


def _zip_of_images(directory: str, images: Iterable[tuple[str, Image.Image]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(_member(directory, zipfile.ZIP_STORED), b"")
        for name, image in images:
            jpeg = io.BytesIO()
            image.save(jpeg, "JPEG", quality=_JPEG_QUALITY)
            archive.writestr(_member(name), jpeg.getvalue())
    return buffer.getvalue()


def _member(name: str, compression: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _DATE)
    member.compress_type = compression
    member.external_attr = 0o40755 << 16 | 0x10 if name.endswith("/") else 0o100644 << 16
    return member


class _Sketch:
    """Draws one animal near the middle of the image, in a random size and slightly tilted.

    Lengths are in heads: (0, 0) is the middle of the head, 1 is about its radius, and y grows downwards.
    """

    def __init__(self, image: Image.Image, rng: np.random.Generator) -> None:
        self._pen = ImageDraw.Draw(image)
        extent = min(image.size)
        self._head = extent * rng.uniform(0.17, 0.27)
        self._x = image.width / 2 + extent * rng.uniform(-0.16, 0.16)
        self._y = image.height * 0.44 + extent * rng.uniform(-0.08, 0.10)
        self._tilt = rng.uniform(-0.22, 0.22)

    def shape(self, points: Iterable[Point], colour: Colour) -> None:
        self._pen.polygon(self._placed(points), fill=colour)

    def line(self, points: Iterable[Point], colour: Colour, width: float) -> None:
        self._pen.line(self._placed(points), fill=colour, width=max(1, round(width * self._head)), joint="curve")

    def oval(self, centre: Point, radii: Point, colour: Colour, lean: float = 0.0) -> None:
        """Draw an ellipse, turned clockwise by `lean` radians."""
        self.shape(_arc(centre, radii, 0.0, 2 * math.pi, lean), colour)

    def _placed(self, points: Iterable[Point]) -> list[Point]:
        return [(self._x + x * self._head, self._y + y * self._head) for x, y in _turned(points, self._tilt)]


def _cat(sketch: _Sketch, fur: Colour, rng: np.random.Generator) -> None:
    dark = _shaded(fur, 0.72)
    reach = rng.uniform(1.3, 1.6)
    _body(sketch, fur, rng)
    for side in (-1, 1):
        sketch.shape([(side * 0.97, -0.1), (side * 0.86, -reach), (side * 0.1, -0.7)], fur)
        sketch.shape([(side * 0.86, -0.4), (side * 0.80, -reach + 0.28), (side * 0.34, -0.7)], _PINK)
    sketch.oval((0, 0), (1.05, 0.88), fur)
    if rng.random() < 0.6:
        for x in (-0.24, 0, 0.24):
            sketch.line([(x, -0.80), (x * 0.8, -0.48)], dark, 0.11)
    iris = _hsv(rng.uniform(0.12, 0.45), 0.65, 0.85)
    for side in (-1, 1):
        sketch.oval((side * 0.42, -0.1), (0.23, 0.25), iris)
        sketch.oval((side * 0.42, -0.1), (0.08, 0.22), _INK)
        sketch.oval((side * 0.42 + 0.07, -0.19), (0.05, 0.05), _WHITE)
        sketch.line(_arc((side * 0.15, 0.36), (0.15, 0.16), 0, math.pi), _INK, 0.05)
        for slope in (-0.16, 0.0, 0.16):
            sketch.line([(side * 0.45, 0.32 + slope / 2), (side * 1.45, 0.30 + slope * 1.8)], _whisker(fur), 0.035)
    sketch.shape([(-0.13, 0.2), (0.13, 0.2), (0, 0.36)], _PINK)


def _dog(sketch: _Sketch, fur: Colour, rng: np.random.Generator) -> None:
    dark = _shaded(fur, 0.72)
    lean = rng.uniform(0.1, 0.4)
    length = rng.uniform(0.65, 0.85)
    _body(sketch, fur, rng)
    sketch.oval((0, 0), (0.9, 1.0), fur)
    if rng.random() < 0.5:
        sketch.oval((rng.choice((-0.36, 0.36)), -0.22), (0.34, 0.38), dark)
    for side in (-1, 1):
        sketch.oval((side * 0.98, 0.05), (0.30, length), dark, lean=-side * lean)
        sketch.oval((side * 0.36, -0.2), (0.16, 0.19), _INK)
        sketch.oval((side * 0.36 + 0.05, -0.27), (0.05, 0.05), _WHITE)
    sketch.oval((0, 0.84), (0.2, rng.uniform(0.3, 0.45)), _PINK)
    sketch.oval((0, 0.44), (0.54, 0.42), _blended(fur, _WHITE, 0.45))
    sketch.oval((0, 0.2), (0.23, 0.17), _INK)
    for side in (-1, 1):
        sketch.line(_arc((side * 0.19, 0.5), (0.19, 0.2), 0, math.pi), _INK, 0.05)


def _body(sketch: _Sketch, fur: Colour, rng: np.random.Generator) -> None:
    """Draw the body, the same for both classes, sometimes with a collar."""
    shadow, chest = _shaded(fur, 0.88), _blended(fur, _WHITE, 0.4)
    sketch.oval((0, 2.0), (1.0, 1.5), shadow)
    sketch.oval((0, 2.1), (0.55, 1.2), chest)
    for side in (-1, 1):
        sketch.oval((side * 0.4, 3.2), (0.38, 0.3), fur)
    if rng.random() < 0.5:
        sketch.oval((0, 0.95), (0.74, 0.34), _hsv(rng.random(), 0.75, 0.8))


def _room(image: Image.Image, rng: np.random.Generator) -> None:
    """Draw a wall, some things that hang on it, and a floor, in random colours."""
    pen = ImageDraw.Draw(image)
    hue = rng.random()
    pen.rectangle((0, 0, *image.size), fill=_hsv(hue, rng.uniform(0.15, 0.55), rng.uniform(0.55, 0.95)))
    for _ in range(rng.integers(2, 6)):
        radius = min(image.size) * rng.uniform(0.04, 0.15)
        x, y = rng.uniform(0, image.width), rng.uniform(0, image.height * 0.7)
        colour = _hsv(hue + rng.uniform(-0.1, 0.1), rng.uniform(0.2, 0.6), rng.uniform(0.5, 1.0))
        outline = (x - radius, y - radius, x + radius, y + radius)
        (pen.ellipse if rng.random() < 0.5 else pen.rectangle)(outline, fill=colour)
    horizon = image.height * rng.uniform(0.7, 0.88)
    pen.rectangle((0, horizon, *image.size), fill=_hsv(rng.random(), rng.uniform(0.2, 0.5), rng.uniform(0.4, 0.8)))


def _grainy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the image with a camera's noise, slightly over- or underexposed."""
    pixels = np.asarray(image, dtype=np.float32) * np.float32(rng.uniform(0.8, 1.1))
    pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(3, 12))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _arc(centre: Point, radii: Point, start: float, stop: float, lean: float = 0.0) -> Iterator[Point]:
    """Yield points along an ellipse between two angles in radians, clockwise from the rightmost point."""
    angles = (start + (stop - start) * step / 32 for step in range(33))
    for x, y in _turned(((radii[0] * math.cos(angle), radii[1] * math.sin(angle)) for angle in angles), lean):
        yield centre[0] + x, centre[1] + y


def _turned(points: Iterable[Point], angle: float) -> Iterator[Point]:
    cos, sin = math.cos(angle), math.sin(angle)
    for x, y in points:
        yield x * cos - y * sin, x * sin + y * cos


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _blended(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _shaded(colour: Colour, brightness: float) -> Colour:
    return _blended((0, 0, 0), colour, brightness)


def _fur(rng: np.random.Generator) -> Colour:
    """Return one of the furs, slightly varied: no two cats are the same ginger."""
    fur = _FURS[rng.integers(len(_FURS))]
    red, green, blue = (min(255, channel + int(rng.integers(-10, 11))) for channel in fur)
    return red, green, blue


def _whisker(fur: Colour) -> Colour:
    """Return a colour that contrasts with the fur."""
    return _INK if sum(fur) > 330 else _WHITE
