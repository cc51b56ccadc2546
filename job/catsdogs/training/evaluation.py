"""Evaluation: a saved model is loaded, and its predictions for images are made."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from catsdogs.data.labels import CLASSES
from catsdogs.data.loader import DataLoader
from catsdogs.models.protocols import Model
from catsdogs.runtime.errors import BadData
from catsdogs.runtime.events import Evaluating
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from catsdogs.storage.volume import AnyPath
from catsdogs.training.predictions import Prediction, predicted_label


def load(path: Path, uri: str) -> Model:
    """Return the model in a `.keras` file that came from `uri`, ready to predict. No code in the file is executed.

    Raises BadData unless it takes square RGB images of one size and gives one probability for each.
    """
    import keras

    try:
        model: Model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # Keras raises exceptions of any kind for a file that is not a model.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadData(f"{uri}: no model that can be used: {reason}") from None
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    match shapes:
        case (None, int(height), int(width), 3), (None, 1) if height == width:
            return model
    raise BadData(f"{uri}: no model of cats and dogs: it takes {shapes[0]} and gives {shapes[1]}")


def probability_of(model: Model) -> Callable[[NDArray[np.float32]], list[float]]:
    """Return the model as a function: images, N×height×width×3 in [0, 1], to N probabilities of a dog.

    It is traced once for batches of any size. `Model.predict` would compile again for a smaller last one.
    """
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
    traced = tf.function(lambda images: model(images, training=False), input_signature=signature)
    return lambda images: list(traced(images).numpy()[:, 0].tolist())


def predict(
    model: Model, loader: DataLoader, directory: AnyPath, log: Log, interruption: Interruption
) -> list[Prediction]:
    """Return the model's predictions for the loader's images, in its order, their names relative to `directory`.

    Raises Interrupted, and VolumeError for an image that cannot be read.
    """
    probabilities_of = probability_of(model)
    probabilities: list[float] = []
    for done, batch in enumerate(loader.batches(), 1):
        probabilities += probabilities_of(batch.images)
        interruption.check()
        if log.due():
            log.emit(Evaluating(done=done, total=len(loader)))
    return [
        Prediction(volume.relative(path, directory), CLASSES[int(label)], probability, predicted_label(probability))
        for path, label, probability in zip(loader.pixels.paths, loader.labels, probabilities, strict=True)
    ]
