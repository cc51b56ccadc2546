"""A model's probabilities, and what it gets right and wrong on the images it has never seen."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from job.batches import Generator
from job.errors import BadData
from job.events import Log
from job.interruption import Interruption

CLASSES = ("cat", "dog")


class Prediction(NamedTuple):
    image: str
    """The file, relative to the split's directory."""
    truth: str
    probability: float
    """Of a dog."""
    verdict: str


def verdict_of(probability: float) -> str:
    """What the model calls an image with this probability of a dog; a cat too where it gives no number."""
    return CLASSES[probability > 0.5]


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


def predict(model: Any, test: Generator, directory: Path, log: Log, interruption: Interruption) -> list[Prediction]:
    """The model's verdict on every image of the generator, in its order. Raises Interrupted."""
    probabilities_of = probability_of(model)
    probabilities: list[float] = []
    for done, batch in enumerate(test.batches(), 1):
        probabilities += probabilities_of(batch.images)
        interruption.check()
        if log.due():
            log.say("evaluating", done=done, total=len(test))
    return [
        Prediction(
            path.relative_to(directory).as_posix(),
            CLASSES[int(label)],
            probability,
            verdict_of(probability),
        )
        for path, label, probability in zip(test.pixels.paths, test.labels, probabilities, strict=True)
    ]


def figures(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """loss (binary cross-entropy), accuracy, images, correct, and confusion[truth][verdict]."""
    confusion = {truth: dict.fromkeys(CLASSES, 0) for truth in CLASSES}
    for prediction in predictions:
        confusion[prediction.truth][prediction.verdict] += 1
    correct = sum(confusion[label][label] for label in CLASSES)
    # Keras' own bound, so that test and validation loss compare.
    dog = np.clip([prediction.probability for prediction in predictions], 1e-7, 1 - 1e-7)
    truth = np.array([prediction.truth == "dog" for prediction in predictions])
    return {
        "loss": float(-np.log(np.where(truth, dog, 1 - dog)).mean()),
        "accuracy": correct / len(predictions),
        "images": len(predictions),
        "correct": correct,
        "confusion": confusion,
    }
