"""The book's section 5.2 as a script: its copied images, its convnet, its generators, its two plots.

    python -m benchmarks.notebook s3://bucket/train.zip DIRECTORY EPOCHS TRAIN VALIDATION TEST

What TensorFlow no longer has (`fit_generator`, `RMSprop(lr=…)`) is written as TensorFlow has it today. Downloading and
unzipping, which the book leaves to its reader, use boto3 and unzip. Prints how many seconds they take.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any


def tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    return tf


def generators(base: Path, batch_size: int = 20) -> tuple[Any, Any]:
    """Return the training and the validation generator: pixels in [0, 1], at 150×150, and labels."""
    rescaling = tensorflow().keras.preprocessing.image.ImageDataGenerator(rescale=1.0 / 255)
    training, validation = (
        rescaling.flow_from_directory(base / split, target_size=(150, 150), batch_size=batch_size, class_mode="binary")
        for split in ("train", "validation")
    )
    return training, validation


def model() -> Any:
    keras = tensorflow().keras
    layers: list[Any] = [keras.Input((150, 150, 3))]
    for filters in (32, 64, 128, 128):
        layers += [keras.layers.Conv2D(filters, (3, 3), activation="relu"), keras.layers.MaxPooling2D((2, 2))]
    layers += [keras.layers.Flatten(), keras.layers.Dense(512, activation="relu")]
    made = keras.Sequential([*layers, keras.layers.Dense(1, activation="sigmoid")])
    made.compile(loss="binary_crossentropy", optimizer=keras.optimizers.RMSprop(learning_rate=1e-4), metrics=["acc"])
    return made


def plot(history: dict[str, list[float]], directory: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    epochs = range(1, len(history["acc"]) + 1)
    for name, title in (("acc", "accuracy"), ("loss", "loss")):
        pyplot.figure()
        pyplot.plot(epochs, history[name], "bo", label=f"Training {title}")
        pyplot.plot(epochs, history[f"val_{name}"], "b", label=f"Validation {title}")
        pyplot.title(f"Training and validation {title}")
        pyplot.legend()
        pyplot.savefig(directory / f"{name}.png")


def main(uri: str, directory: Path, epochs: int, counts: dict[str, int]) -> None:
    from benchmarks.alternatives import by_hand

    began = time.monotonic()
    base = by_hand(uri, directory, counts, "boto3")
    fetching = time.monotonic() - began
    training, validation = generators(base)
    convnet = model()
    history = convnet.fit(
        training, steps_per_epoch=len(training), epochs=epochs,
        validation_data=validation, validation_steps=len(validation), verbose=2,
    )  # fmt: skip
    convnet.save(directory / "cats_and_dogs_small_1.keras")
    plot(history.history, directory)
    print(f"\nfetching {fetching:.3f}")  # noqa: T201


if __name__ == "__main__":
    sizes = dict(zip(("train", "validation", "test"), map(int, sys.argv[4:]), strict=True))
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sizes)
