"""A model's probabilities, and what it gets right and wrong on the images it has never seen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from catsdogs.data.labels import CLASSES
from catsdogs.data.loader import DataLoader
from catsdogs.runtime.errors import BadData
from catsdogs.runtime.events import Evaluating
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.training.predictions import Prediction, verdict_of


def load(path: Path, uri: str) -> Any:
    """The model in a `.keras` file that came from `uri`, ready to predict. Nothing in the file is run as code.

    Raises BadData unless it takes square RGB images of one size and gives one probability for each.
    """
    import keras

    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # No list of kinds: of a file that is no model Keras raises anything.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadData(f"{uri}: no model that can be used: {reason}") from None
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    match shapes:
        case (None, int(height), int(width), 3), (None, 1) if height == width:
            return model
    raise BadData(f"{uri}: no model of cats and dogs: it takes {shapes[0]} and gives {shapes[1]}")


def probability_of(model: Any) -> Callable[[NDArray[np.float32]], list[float]]:
    """The model as a function: images, N×height×width×3 in [0, 1], to the probabilities of a dog.

    It is traced once for batches of any size; Model.predict would compile again for the last one.
    """
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
    traced = tf.function(lambda images: model(images, training=False), input_signature=signature)
    return lambda images: list(traced(images).numpy()[:, 0].tolist())


def predict(model: Any, test: DataLoader, directory: Path, log: Log, interruption: Interruption) -> list[Prediction]:
    """The model's verdict on every image of the generator, in its order. Raises Interrupted."""
    probabilities_of = probability_of(model)
    probabilities: list[float] = []
    for done, batch in enumerate(test.batches(), 1):
        probabilities += probabilities_of(batch.images)
        interruption.check()
        if log.due():
            log.emit(Evaluating(done=done, total=len(test)))
    return [
        Prediction(
            path.relative_to(directory).as_posix(),
            CLASSES[int(label)],
            probability,
            verdict_of(probability),
        )
        for path, label, probability in zip(test.pixels.paths, test.labels, probabilities, strict=True)
    ]
