"""The convnets of the recipes and their optimizers. Keras is imported only when one is built.

Each convnet is a function of the image size and a seed, which alone determines its first weights and what its dropout
layers drop. Without seeds of their own, Keras would draw them from Python's `random`, from which boto3's threads draw
too. The order in which seeds are drawn, and the names of layers, are part of a run: change either and a recipe trains
to other weights, or its `model.keras` differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras import KerasTensor

    from catsdogs.models.protocols import Model, Optimizer


def baseline(image_size: int, seed: int) -> Model:
    """The first convnet of Chollet, Deep Learning with Python (2017), section 5.2."""
    return _book(image_size, seed, "baseline", dropout=0.0)


def augmented(image_size: int, seed: int) -> Model:
    """The same with dropout, the next step of that section."""
    return _book(image_size, seed, "augmented", dropout=0.5)


def _book(image_size: int, seed: int, name: str, dropout: float) -> Model:
    from keras import Input, Sequential, layers
    from keras.initializers import GlorotUniform

    seeds = _seeds(seed)
    stages = [
        layer
        for filters in (32, 64, 128, 128)
        for layer in (
            layers.Conv2D(filters, 3, activation="relu", kernel_initializer=GlorotUniform(next(seeds))),
            layers.MaxPooling2D(2),
        )
    ]
    model: Model = Sequential(
        [
            Input((image_size, image_size, 3)),
            *stages,
            layers.Flatten(),
            *([layers.Dropout(dropout, seed=next(seeds))] if dropout else []),
            layers.Dense(512, activation="relu", kernel_initializer=GlorotUniform(next(seeds))),
            layers.Dense(1, activation="sigmoid", kernel_initializer=GlorotUniform(next(seeds)), dtype="float32"),
        ],
        name=name,
    )
    return model


def xception(image_size: int, seed: int) -> Model:
    """The small Xception-like net of Chollet, Deep Learning with Python, second edition (2021), section 9.3.5.

    Without its augmentation and rescaling, which are not part of the model here.
    """
    from keras import Input, layers
    from keras.initializers import GlorotUniform

    seeds = _seeds(seed)

    def separable(x: KerasTensor, filters: int) -> KerasTensor:
        depthwise, pointwise = GlorotUniform(next(seeds)), GlorotUniform(next(seeds))
        return layers.SeparableConv2D(
            filters, 3, padding="same", use_bias=False,
            depthwise_initializer=depthwise, pointwise_initializer=pointwise,
        )(x)  # fmt: skip

    inputs = Input((image_size, image_size, 3), name="input_layer")
    x = layers.Conv2D(32, 5, use_bias=False, kernel_initializer=GlorotUniform(next(seeds)))(inputs)
    for filters in (32, 64, 128, 256, 512):
        shortcut = x
        for _ in range(2):
            x = separable(layers.ReLU()(layers.BatchNormalization()(x)), filters)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        initializer = GlorotUniform(next(seeds))
        shortcut = layers.Conv2D(
            filters, 1, strides=2, padding="same", use_bias=False, kernel_initializer=initializer
        )(shortcut)  # fmt: skip
        x = layers.Add()([x, shortcut])
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.5, seed=next(seeds))(x)
    return _classifier(inputs, x, next(seeds), "xception")


def compact(image_size: int, seed: int) -> Model:
    """Three stages of one residual block each (He et al., Deep residual learning, 2016), made for a CPU.

    Its first two layers leave a sixteenth of the pixels, and the rest are ordinary convolutions with many channels,
    which a CPU computes at the highest rate. It accepts images of any size, so it can be trained on smaller ones.
    """
    from keras import Input, layers
    from keras.initializers import HeNormal

    seeds = _seeds(seed)

    def convolution(x: KerasTensor, filters: int, size: int, seed: int, strides: int = 1) -> KerasTensor:
        x = layers.Conv2D(
            filters, size, strides, padding="same", use_bias=False, kernel_initializer=HeNormal(seed)
        )(x)  # fmt: skip
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    def block(x: KerasTensor, filters: int, strides: int) -> KerasTensor:
        # The shortcut's seed is drawn last although its layer comes first, and is numbered first.
        first, second = next(seeds), next(seeds)
        shortcut = layers.AveragePooling2D(strides, padding="same")(x) if strides > 1 else x
        if x.shape[-1] != filters:
            shortcut = convolution(shortcut, filters, 1, next(seeds))
        x = layers.ReLU()(convolution(x, filters, 3, first, strides))
        return layers.ReLU()(layers.Add()([convolution(x, filters, 3, second), shortcut]))

    inputs = Input((None, None, 3), name="input_layer")
    x = layers.Rescaling(4.0, -2.0)(inputs)  # about zero, with a variance of about one
    x = layers.MaxPooling2D(2)(layers.ReLU()(convolution(x, 32, 5, next(seeds), strides=2)))
    for filters, strides in ((64, 1), (128, 2), (256, 2)):
        x = block(x, filters, strides)
    return _classifier(inputs, layers.GlobalAveragePooling2D()(x), next(seeds), "compact")


def mirrored(model: Model, image_size: int) -> Model:
    """Return a model with the same weights that gives the mean for an image and its mirror image."""
    import keras
    from keras import Input, layers, ops

    images = Input((image_size, image_size, 3), name="input_layer_1")
    mean = layers.Average()([model(images), model(ops.flip(images, axis=2))])
    pair: Model = keras.Model(images, mean, name=model.name)
    return pair


def rmsprop(learning_rate: float, steps: int) -> Optimizer:
    """RMSprop with the same learning rate in all `steps`."""
    from keras.optimizers import RMSprop

    optimizer: Optimizer = RMSprop(learning_rate)
    return optimizer


def muon(learning_rate: float, steps: int) -> Optimizer:
    """Muon for convolutions, Adam for everything else.

    The rate rises during the first sixteenth of `steps`, then falls to 0 along a cosine. It follows from the
    optimizer's count of its steps, which checkpoints contain. Weight decay applies to kernels only, and is multiplied
    by the rate (Loshchilov and Hutter, 2019).
    """
    from keras.optimizers.schedules import CosineDecay

    from catsdogs.models.muon import Muon

    rising = steps // 16
    schedule = CosineDecay(0.0, steps - rising, warmup_target=learning_rate, warmup_steps=rising)
    optimizer = Muon(schedule, weight_decay=0.2, adam_weight_decay=0.2, adam_lr_ratio=0.3, adam_beta_2=0.99)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _classifier(inputs: KerasTensor, features: KerasTensor, seed: int, name: str) -> Model:
    """Return the model from `inputs` to the probability that follows from `features`."""
    import keras
    from keras import layers
    from keras.initializers import GlorotUniform

    last = layers.Dense(1, activation="sigmoid", kernel_initializer=GlorotUniform(seed), dtype="float32")
    model: Model = keras.Model(inputs, last(features), name=name)
    return model


def _seeds(seed: int) -> Iterator[int]:
    """Yield seeds for initializers and dropout layers, one each, without end."""
    import numpy as np  # not before a model is built: the command line knows the recipes

    random = np.random.default_rng(seed)
    while True:
        yield int(random.integers(2**31))
