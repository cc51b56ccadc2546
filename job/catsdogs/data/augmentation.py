"""Random distortions of training images: what an image looks like in an epoch follows from (seed, epoch, image)."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DRAWS = 10


@functools.cache
def _libraries() -> tuple[Any, Any]:
    # Imported when first used: the command line knows the recipes, and answers --help without waiting for these.
    import numpy as np

    from catsdogs.data.images import opencv

    return opencv(), np


@dataclass(frozen=True)
class Augmentation:
    """How far images are distorted, with the meaning that Keras' ImageDataGenerator gives to these numbers.

    Each is drawn evenly from both sides.
    """

    rotation: float = 0.0
    """Degrees."""
    width_shift: float = 0.0
    height_shift: float = 0.0
    """Shares of the image's size."""
    shear: float = 0.0
    """Degrees."""
    zoom: float = 0.0
    """Widths and heights of 1 - zoom to 1 + zoom of the image are shown, drawn apart unless `keep_ratio`."""
    keep_ratio: bool = False
    """Width and height are zoomed alike, as Keras' RandomZoom layer does."""
    reflect: bool = False
    """What comes in from beyond an edge mirrors the image, as in Keras' layers, instead of repeating the edge's
    pixels."""
    horizontal_flip: bool = False
    """Half of the images are mirrored."""
    crop: float = 1.0
    """Below 1: a rectangle of this share of the image's area or more is shown, wherever it lies, its sides' ratio up to
    a third greater or smaller (random resized crop of Szegedy and others, 2015). It is drawn in place of the zoom."""
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    """Factors from 1 - x to 1 + x: of all values, of their distance to the image's mean, and to their grey."""
    scale: float = 1.0
    """The distorted image's size, as a share of the given one's."""

    def applied(self, image: "NDArray[np.uint8]", seed: int, epoch: int, index: int) -> "NDArray[np.uint8]":
        """A new image, height×width×3, of the same size unless `scale` says otherwise."""
        cv2, numpy = _libraries()
        height, width = image.shape[:2]
        draws = numpy.random.default_rng([seed, epoch, index]).uniform(-1, 1, DRAWS).tolist()
        matrix = numpy.array(self.matrix(draws, height, width))
        distorted: NDArray[np.uint8] = cv2.warpAffine(
            image, matrix, (self.scaled(width), self.scaled(height)), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT if self.reflect else cv2.BORDER_REPLICATE,
        )  # fmt: skip
        if self.brightness or self.contrast or self.saturation:
            colours = numpy.array(self.colours(draws, float(distorted.mean())))
            distorted = cv2.transform(distorted, colours)  # rounds, and holds values to 0 … 255
        return distorted

    def scaled(self, size: int) -> int:
        """Width or height of the distorted image."""
        return round(self.scale * size)

    def matrix(self, draws: Sequence[float], height: int, width: int) -> list[list[float]]:
        """2×3: from a pixel (x, y, 1) of the distorted image to its place in the given one, about both centres.

        `draws` are DRAWS numbers from -1 to 1; each setting has its own, so that one changes nothing of the others.
        """
        angle, shear, right, down, wide, high, mirrored = draws[:7]
        angle, shear = math.radians(self.rotation * angle), math.radians(self.shear * shear)
        zoom_x, zoom_y = 1 + self.zoom * wide, 1 + self.zoom * (wide if self.keep_ratio else high)
        shift_x, shift_y = self.width_shift * width * right, self.height_shift * height * down
        if self.crop < 1:
            area, ratio = 1 - (1 - self.crop) * (1 + wide) / 2, (4 / 3) ** high
            zoom_x, zoom_y = min(1.0, math.sqrt(area * ratio)), min(1.0, math.sqrt(area / ratio))
            shift_x += (1 - zoom_x) / 2 * width * right
            shift_y += (1 - zoom_y) / 2 * height * down
        out_width, out_height = self.scaled(width), self.scaled(height)
        zoom_x, zoom_y = zoom_x * (width / out_width), zoom_y * (height / out_height)
        if self.horizontal_flip and mirrored > 0:
            zoom_x = -zoom_x
        cos, sin = math.cos(angle), math.sin(angle)
        # Rotation · (shift + shear · zoom).
        xx, xy = (cos * math.cos(shear) - sin * math.sin(shear)) * zoom_x, sin * zoom_y
        yx, yy = (-sin * math.cos(shear) - cos * math.sin(shear)) * zoom_x, cos * zoom_y
        x, y = (width - 1) / 2, (height - 1) / 2
        out_x, out_y = (out_width - 1) / 2, (out_height - 1) / 2
        return [
            [xx, xy, x + cos * shift_x + sin * shift_y - xx * out_x - xy * out_y],
            [yx, yy, y - sin * shift_x + cos * shift_y - yx * out_x - yy * out_y],
        ]

    def colours(self, draws: Sequence[float], mean: float) -> list[list[float]]:
        """3×4: from a colour (red, green, blue, 1) to the distorted one, in an image whose values have this mean."""
        light, spread, vivid = (
            1 + most * draw
            for most, draw in zip((self.brightness, self.contrast, self.saturation), draws[7:], strict=True)
        )
        grey = 0.299, 0.587, 0.114  # ITU-R BT.601, as JPEG
        return [
            [
                *(light * spread * (vivid * (row == column) + (1 - vivid) * grey[column]) for column in range(3)),
                light * (1 - spread) * mean,
            ]
            for row in range(3)
        ]
