"""The convnets by name, each with its optimizer and the settings it was made for.

TensorFlow is imported only when a model is built.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from job.augmentation import Augmentation


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
    model: Callable[[int], Any]
    """Image size → a keras.Model from images in [0, 1] to the probability of a dog, N×1."""
    optimizer: Callable[[float], Any]
    """Learning rate → a keras.Optimizer."""
    augmentation: Augmentation | None = None
    """How training images are distorted; those that the model is measured on never are."""

    def improves(self, row: dict[str, float], best: dict[str, float] | None) -> bool:
        """Whether a row of the history is better than the best before it. Of equals the earlier stays."""
        if best is None:
            return True
        if self.monitor == "val_loss":
            return row["val_loss"] < best["val_loss"]
        return row["val_accuracy"] > best["val_accuracy"]


def _baseline(image_size: int) -> Any:
    return _book(image_size, "baseline", dropout=0.0)


def _augmented(image_size: int) -> Any:
    return _book(image_size, "augmented", dropout=0.5)


def _book(image_size: int, name: str, dropout: float) -> Any:
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((image_size, image_size, 3)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(128, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(128, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            *([layers.Dropout(dropout)] if dropout else []),
            layers.Dense(512, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ],
        name=name,
    )


def _rmsprop(learning_rate: float) -> Any:
    from keras.optimizers import RMSprop

    return RMSprop(learning_rate)


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
            smallest_image_size=46,  # four 3×3 convolutions and poolings leave one pixel of it
            monitor="val_accuracy",
            model=_baseline,
            optimizer=_rmsprop,
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
            model=_augmented,
            optimizer=_rmsprop,
            augmentation=Augmentation(
                rotation=40, width_shift=0.2, height_shift=0.2, shear=0.2, zoom=0.2, horizontal_flip=True
            ),
        ),
    )
}
