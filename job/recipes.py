"""The convnets by name, each with its optimizer and the settings it was made for.

TensorFlow is imported only when a model is built.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


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

    def improves(self, row: dict[str, float], best: dict[str, float] | None) -> bool:
        """Whether a row of the history is better than the best before it. Of equals the earlier stays."""
        if best is None:
            return True
        if self.monitor == "val_loss":
            return row["val_loss"] < best["val_loss"]
        return row["val_accuracy"] > best["val_accuracy"]


def _baseline(image_size: int) -> Any:
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
            layers.Dense(512, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ],
        name="baseline",
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
    )
}
