"""Random distortions of training images, as a function of (seed, epoch, image)."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DRAWS = 10
"""Random numbers for an image."""


@functools.cache
def _libraries() -> tuple[ModuleType, ModuleType]:
    # Imported when first used: the command line imports the recipes, and --help must not wait for these.
    import numpy as np

    from catsdogs.data.images import opencv

    return opencv(), np


@dataclass(frozen=True)
class Augmentation:
    """How far images are distorted, in the units of Keras' ImageDataGenerator.

    Each value is drawn uniformly from both sides.
    """

    rotation: float = 0.0
    """Degrees."""
    width_shift: float = 0.0
    height_shift: float = 0.0
    """Shares of the image's size."""
    shear: float = 0.0
    """Degrees."""
    zoom: float = 0.0
    """The distorted image shows 1 - zoom to 1 + zoom of the width and of the height, drawn separately."""
    keep_ratio: bool = False
    """Zoom width and height alike, as Keras' RandomZoom layer does."""
    reflect: bool = False
    """Fill the area beyond an edge with the mirrored image, as Keras' layers do, not with the edge's pixels."""
    horizontal_flip: bool = False
    """Mirror half of the images."""
    crop: float = 1.0
    """Below 1: show a rectangle anywhere in the image, with at least this share of its area and an aspect ratio up to a
    third greater or smaller (random resized crop, Szegedy and others, 2015), instead of the zoom."""
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    """Factors from 1 - x to 1 + x: of all values, of their distance to the image's mean, of their distance to grey."""
    scale: float = 1.0
    """The size of the distorted image, as a share of the original's."""

    def applied(self, image: "NDArray[np.uint8]", seed: int, epoch: int, index: int) -> "NDArray[np.uint8]":
        """Return the distorted image, height×width×3; its size is that of `image`, times `scale`."""
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
            distorted = cv2.transform(distorted, colours)  # rounds, and clips to 0 … 255
        return distorted

    def scaled(self, size: int) -> int:
        """Return the width or height of the distorted image."""
        return round(self.scale * size)

    def matrix(self, draws: Sequence[float], height: int, width: int) -> list[list[float]]:
        """Return the 2×3 matrix that maps a pixel (x, y, 1) of the distorted image to the original.

        Both are transformed about their centres. `draws` are DRAWS numbers from -1 to 1; each setting has its own, so
        changing one does not affect the others.
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
        """Return the 3×4 matrix that maps a colour (red, green, blue, 1) to the distorted one, given the mean value."""
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
