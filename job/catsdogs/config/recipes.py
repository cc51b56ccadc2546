"""The recipes by name: a convnet, its optimizer, and the settings it was designed for.

TensorFlow is imported only when a model is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from catsdogs.config.history import HistoryRow
from catsdogs.data.augmentation import Augmentation
from catsdogs.models import convnets

if TYPE_CHECKING:
    from catsdogs.models.protocols import Model, Optimizer


@dataclass(frozen=True)
class Recipe:
    """A model with its optimizer and schedule; the numbers are defaults that options override."""

    name: str
    summary: str
    epochs: int
    batch_size: int
    learning_rate: float
    image_size: int
    smallest_image_size: int
    monitor: Literal["val_accuracy", "val_loss"]
    """What makes an epoch the best one: the highest validation accuracy or the lowest validation loss."""
    model: Callable[[int, int], Model]
    """Image size, seed → a model with first weights that follow from the seed."""
    optimizer: Callable[[float, int], Optimizer]
    """Learning rate, steps of the whole training → an optimizer that is not built yet."""
    augmentation: Augmentation | None = None
    """How training images are distorted; validation and test images never are."""
    mixup: float = 0.0
    """Blends training images and their labels with others of their batch: the parameter of the beta distribution from
    which the shares are drawn (Zhang and others, mixup, 2018). 0: no blending."""
    label_smoothing: float = 0.0
    """In training, labels 0 and 1 become half of this and 1 less half of this (Szegedy and others, 2016)."""
    mirrored: bool = False
    """The model that is evaluated and saved gives the mean for an image and its mirror image."""

    def improves(self, row: HistoryRow, best: HistoryRow | None) -> bool:
        """Return whether a row of the history is better than the best one before it, not just as good."""
        if best is None:
            return True
        if self.monitor == "val_loss":
            return row["val_loss"] < best["val_loss"]
        return row["val_accuracy"] > best["val_accuracy"]


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="baseline",
            summary="the first convnet of Chollet, Deep Learning with Python (2017), section 5.2",
            epochs=30,
            batch_size=20,
            learning_rate=1e-4,
            image_size=150,
            smallest_image_size=46,  # four 3×3 convolutions and poolings reduce it to one pixel
            monitor="val_accuracy",
            model=convnets.baseline,
            optimizer=convnets.rmsprop,
        ),
        Recipe(
            name="augmented",
            summary="the same with dropout and augmentation, the next step of that section",
            epochs=160,  # the book's 100 epochs of 100 batches, in passes over 2,000 images
            batch_size=32,
            learning_rate=1e-4,
            image_size=150,
            smallest_image_size=46,
            monitor="val_accuracy",
            model=convnets.augmented,
            optimizer=convnets.rmsprop,
            augmentation=Augmentation(
                rotation=40, width_shift=0.2, height_shift=0.2, shear=0.2, zoom=0.2, horizontal_flip=True
            ),
        ),
        Recipe(
            name="xception",
            summary="the small Xception-like net of Chollet's second edition (2021), section 9.3.5",
            epochs=100,
            batch_size=32,
            learning_rate=1e-3,  # RMSprop's default
            image_size=180,
            smallest_image_size=5,  # the first convolution reduces it to one pixel
            monitor="val_loss",
            model=convnets.xception,
            optimizer=convnets.rmsprop,
            augmentation=Augmentation(rotation=36, zoom=0.2, keep_ratio=True, reflect=True, horizontal_flip=True),
        ),
        Recipe(
            name="compact",
            summary="a lean residual net made for a CPU, with mixup, Muon and a cosine schedule",
            epochs=50,
            batch_size=100,
            learning_rate=0.02,
            image_size=112,
            smallest_image_size=32,
            monitor="val_loss",
            model=convnets.compact,
            optimizer=convnets.muon,
            augmentation=Augmentation(
                rotation=15, crop=0.3, horizontal_flip=True, brightness=0.2, contrast=0.3, saturation=0.3, scale=6 / 7
            ),
            label_smoothing=0.1,
            mixup=0.4,
            mirrored=True,
        ),
    )
}
