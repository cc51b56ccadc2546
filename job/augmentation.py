"""Random distortions of training images: what an image looks like in an epoch follows from (seed, epoch, image)."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DRAWS = 7


@functools.cache
def _libraries() -> tuple[Any, Any]:
    # Imported when first used: the command line knows the recipes, and answers --help without waiting for these.
    import cv2
    import numpy as np

    # The generators' threads are enough.
    cv2.setNumThreads(1)
    return cv2, np


@dataclass(frozen=True)
class Augmentation:
    """How far images are distorted, with the meaning that Keras' ImageDataGenerator gives to these numbers.

    Each is drawn evenly from both sides. What comes in from beyond an edge repeats the edge's pixels.
    """

    rotation: float = 0.0
    """Degrees."""
    width_shift: float = 0.0
    height_shift: float = 0.0
    """Shares of the image's size."""
    shear: float = 0.0
    """Degrees."""
    zoom: float = 0.0
    """Widths and heights of 1 - zoom to 1 + zoom of the image are shown, drawn apart."""
    horizontal_flip: bool = False
    """Half of the images are mirrored."""

    def applied(self, image: "NDArray[np.uint8]", seed: int, epoch: int, index: int) -> "NDArray[np.uint8]":
        """A new image of the same shape, height×width×3."""
        cv2, numpy = _libraries()
        height, width = image.shape[:2]
        draws = numpy.random.default_rng([seed, epoch, index]).uniform(-1, 1, DRAWS).tolist()
        matrix = numpy.array(self.matrix(draws, height, width))
        distorted: NDArray[np.uint8] = cv2.warpAffine(
            image, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        return distorted

    def matrix(self, draws: Sequence[float], height: int, width: int) -> list[list[float]]:
        """2×3: from a pixel (x, y, 1) of the distorted image to its place in the given one, about the centre.

        `draws` are DRAWS numbers from -1 to 1; each setting has its own, so that one changes nothing of the others.
        """
        angle, shear, right, down, wide, high, mirrored = draws
        angle, shear = math.radians(self.rotation * angle), math.radians(self.shear * shear)
        zoom_x, zoom_y = 1 + self.zoom * wide, 1 + self.zoom * high
        if self.horizontal_flip and mirrored > 0:
            zoom_x = -zoom_x
        cos, sin = math.cos(angle), math.sin(angle)
        # Rotation · (shift + shear · zoom).
        xx, xy = (cos * math.cos(shear) - sin * math.sin(shear)) * zoom_x, sin * zoom_y
        yx, yy = (-sin * math.cos(shear) - cos * math.sin(shear)) * zoom_x, cos * zoom_y
        shift_x, shift_y = self.width_shift * width * right, self.height_shift * height * down
        x, y = (width - 1) / 2, (height - 1) / 2
        return [
            [xx, xy, x + cos * shift_x + sin * shift_y - xx * x - xy * y],
            [yx, yy, y - sin * shift_x + cos * shift_y - yx * x - yy * y],
        ]
