"""Predictions, and the metrics that follow from them. Imports no TensorFlow."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from catsdogs.data.labels import CLASSES


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


def figures_of(predictions: Sequence[Prediction]) -> dict[str, Any]:
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
