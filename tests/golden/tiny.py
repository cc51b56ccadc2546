"""Small models for the recipes, so that the files of their runs are small enough for the repository.

Newer code passes a seed for first weights. It is ignored, because a checkpoint replaces them.
"""

import dataclasses
from typing import Any


def baseline(image_size: int, seed: int = 0) -> Any:
    return _book(image_size, "baseline", dropout=0.0)


def augmented(image_size: int, seed: int = 0) -> Any:
    return _book(image_size, "augmented", dropout=0.5)


def compact(image_size: int, seed: int = 0) -> Any:
    """One residual block after the first layers, with every kind of layer that the recipe's own model has."""
    from keras import Input, Model, layers

    def convolution(x: Any, filters: int, size: int, strides: int = 1) -> Any:
        x = layers.Conv2D(
            filters, size, strides, padding="same", use_bias=False, kernel_initializer="he_normal"
        )(x)  # fmt: skip
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    inputs = Input((None, None, 3))
    x = layers.Rescaling(4.0, -2.0)(inputs)
    x = layers.MaxPooling2D(2)(layers.ReLU()(convolution(x, 4, 5, 2)))
    shortcut = convolution(layers.AveragePooling2D(2, padding="same")(x), 8, 1)
    x = convolution(layers.ReLU()(convolution(x, 8, 3, 2)), 8, 3)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([x, shortcut])))
    return Model(inputs, layers.Dense(1, activation="sigmoid", dtype="float32")(x), name="compact")


def shrink(recipes: dict[str, Any]) -> None:
    """Replace the models of baseline, augmented and compact, in place. Optimizers, schedules and augmentation stay."""
    for model in (baseline, augmented, compact):
        if recipe := recipes.get(model.__name__):
            recipes[recipe.name] = dataclasses.replace(recipe, model=model)


def _book(image_size: int, name: str, dropout: float) -> Any:
    from keras import Input, Sequential, layers

    blocks: list[Any] = []
    for filters in (8, 8, 8, 16):
        blocks += [layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D(2)]
    return Sequential(
        [
            Input((image_size, image_size, 3)),
            *blocks,
            layers.Flatten(),
            *([layers.Dropout(dropout)] if dropout else []),
            layers.Dense(16, activation="relu"),
            layers.Dense(1, activation="sigmoid", dtype="float32"),
        ],
        name=name,
    )
