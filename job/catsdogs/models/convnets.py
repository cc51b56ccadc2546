"""The convnets of the recipes and their optimizers. Keras is imported only when one is built."""

from typing import Any


def baseline(image_size: int) -> Any:
    """The first convnet of Chollet, Deep Learning with Python (2017), section 5.2."""
    return _book(image_size, "baseline", dropout=0.0)


def augmented(image_size: int) -> Any:
    """The same with dropout, the next step of that section."""
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
            layers.Dense(1, activation="sigmoid", dtype="float32"),
        ],
        name=name,
    )


def xception(image_size: int) -> Any:
    """The small Xception-like net of Chollet, Deep Learning with Python, second edition (2021), section 9.3.5.

    Without its augmentation and rescaling, which are not the model's here.
    """
    from keras import Input, Model, layers

    inputs = Input((image_size, image_size, 3))
    x = layers.Conv2D(32, 5, use_bias=False)(inputs)
    for filters in (32, 64, 128, 256, 512):
        shortcut = layers.Conv2D(filters, 1, strides=2, padding="same", use_bias=False)(x)
        for _ in range(2):
            x = layers.ReLU()(layers.BatchNormalization()(x))
            x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        x = layers.Add()([x, shortcut])
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    return Model(inputs, layers.Dense(1, activation="sigmoid", dtype="float32")(x), name="xception")


def compact(image_size: int) -> Any:
    """Three stages of one residual block each (He et al., Deep residual learning, 2016), made for a CPU.

    Its first two layers leave a sixteenth of the pixels, and the rest are ordinary convolutions of many channels,
    which a CPU does at the highest rate. It takes images of any size, so that it can learn from smaller ones.
    """
    from keras import Input, Model, layers

    def convolution(x: Any, filters: int, size: int, strides: int = 1) -> Any:
        x = layers.Conv2D(
            filters, size, strides, padding="same", use_bias=False, kernel_initializer="he_normal"
        )(x)  # fmt: skip
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    def block(x: Any, filters: int, strides: int) -> Any:
        shortcut = layers.AveragePooling2D(strides, padding="same")(x) if strides > 1 else x
        if x.shape[-1] != filters:
            shortcut = convolution(shortcut, filters, 1)
        x = layers.ReLU()(convolution(x, filters, 3, strides))
        return layers.ReLU()(layers.Add()([convolution(x, filters, 3), shortcut]))

    inputs = Input((None, None, 3))
    x = layers.Rescaling(4.0, -2.0)(inputs)  # about zero, with a variance of about one
    x = layers.MaxPooling2D(2)(layers.ReLU()(convolution(x, 32, 5, 2)))
    for filters, strides in ((64, 1), (128, 2), (256, 2)):
        x = block(x, filters, strides)
    x = layers.GlobalAveragePooling2D()(x)
    return Model(inputs, layers.Dense(1, activation="sigmoid", dtype="float32")(x), name="compact")


def rmsprop(learning_rate: float, steps: int) -> Any:
    """With the same learning rate in all `steps`."""
    from keras.optimizers import RMSprop

    return RMSprop(learning_rate)


def muon(learning_rate: float, steps: int) -> Any:
    """Muon for convolutions, Adam for all else. The rate rises over a sixteenth of `steps`, then falls to nothing along
    a cosine.

    Weight decay holds for kernels alone, and is multiplied by the rate (Loshchilov and Hutter, 2019). The rate
    follows from the optimizer's count of its steps, which the checkpoints hold.
    """
    from keras.optimizers.schedules import CosineDecay

    from catsdogs.models.muon import Muon

    rising = steps // 16
    schedule = CosineDecay(0.0, steps - rising, warmup_target=learning_rate, warmup_steps=rising)
    optimizer = Muon(schedule, weight_decay=0.2, adam_weight_decay=0.2, adam_lr_ratio=0.3, adam_beta_2=0.99)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
