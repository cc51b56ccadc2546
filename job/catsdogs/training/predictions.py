"""Predictions, and the metrics that follow from them. Does not import TensorFlow."""

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import numpy as np

from catsdogs.data.labels import CLASSES


class Prediction(NamedTuple):
    image: str
    """The file, relative to the split's directory."""
    label: str
    """The class that the image shows, one of CLASSES."""
    probability: float
    """Of a dog; not finite if the model gives no number."""
    predicted: str
    """The class that the model predicts, one of CLASSES."""


class PredictionMetrics(TypedDict):
    loss: float
    """Mean binary cross-entropy."""
    accuracy: float
    """Share of correct predictions."""
    images: int
    correct: int
    confusion: dict[str, dict[str, int]]
    """Label → predicted label → images."""


def predicted_label(probability: float) -> str:
    """Return the class that a probability of a dog predicts; that of cats for one that is not a number."""
    return CLASSES[probability > 0.5]


def prediction_metrics(predictions: Sequence[Prediction]) -> PredictionMetrics:
    """Return the metrics of one prediction or more."""
    confusion = {label: dict.fromkeys(CLASSES, 0) for label in CLASSES}
    for prediction in predictions:
        confusion[prediction.label][prediction.predicted] += 1
    correct = sum(confusion[label][label] for label in CLASSES)
    # Keras' own bound, so that test and validation loss compare.
    dog = np.clip([prediction.probability for prediction in predictions], 1e-7, 1 - 1e-7)
    is_dog = np.array([prediction.label == "dog" for prediction in predictions])
    return {
        "loss": float(-np.log(np.where(is_dog, dog, 1 - dog)).mean()),
        "accuracy": correct / len(predictions),
        "images": len(predictions),
        "correct": correct,
        "confusion": confusion,
    }
