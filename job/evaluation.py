"""What the finished model gets right and wrong on the images it has never seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from job.batches import Generator
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


def predict(model: Any, test: Generator, directory: Path, log: Log, interruption: Interruption) -> list[Prediction]:
    """The model's verdict on every image of the generator, in its order. Raises Interrupted."""
    # Traced once for batches of any size; Model.predict would compile again for the last one.
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
    probability_of = tf.function(lambda images: model(images, training=False), input_signature=signature)
    probabilities: list[float] = []
    for done, batch in enumerate(test.batches(), 1):
        probabilities += probability_of(batch.images).numpy()[:, 0].tolist()
        interruption.check()
        if log.due():
            log.say("evaluating", done=done, total=len(test))
    return [
        Prediction(
            path.relative_to(directory).as_posix(),
            CLASSES[int(label)],
            probability,
            CLASSES[probability > 0.5],
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
