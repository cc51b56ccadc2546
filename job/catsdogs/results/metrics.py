"""Statistics of a model's predictions: pure arithmetic."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

from catsdogs.results.documents import SplitMetrics
from catsdogs.training.predictions import Prediction, prediction_metrics

Outcome = tuple[bool, float]
"""Whether the image is of a dog, and the predicted probability of a dog."""


def wilson_interval(correct: int, images: int) -> tuple[float, float]:
    """Return the 95 % score interval of the share `correct` of `images`; (0, 1) without images."""
    if images == 0:
        return 0.0, 1.0
    z = 1.959963984540054  # the normal distribution's 97.5 % quantile
    share, spread = correct / images, z * z / images
    centre = (share + spread / 2) / (1 + spread)
    reach = z * sqrt(share * (1 - share) / images + spread / images / 4) / (1 + spread)
    return max(0.0, centre - reach), min(1.0, centre + reach)


class Shard(NamedTuple):
    """The metrics of one worker's part of a split."""

    loss: float
    """Mean; 0 without images."""
    images: int
    correct: int

    @classmethod
    def of(cls, predictions: Sequence[Prediction]) -> "Shard":
        if not predictions:
            return cls(0.0, 0, 0)
        metrics = prediction_metrics(predictions)
        return cls(metrics["loss"], metrics["images"], metrics["correct"])


def combined(shards: Sequence[Shard]) -> SplitMetrics:
    """Return the metrics of a split from those of its shards, of which one has images."""
    images, correct = sum(shard.images for shard in shards), sum(shard.correct for shard in shards)
    loss = sum(shard.loss * shard.images for shard in shards) / images
    return {"loss": loss, "accuracy": correct / images, "images": images, "correct": correct}


def roc(outcomes: Iterable[Outcome]) -> list[tuple[float, float]]:
    """Return (false positive rate, true positive rate) for every threshold, from (0, 0) to (1, 1). Dogs are positive.

    Images with equal probabilities pass the threshold together. Empty unless there are both cats and dogs.
    """
    ranked = sorted(outcomes, key=lambda outcome: -outcome[1])
    dogs = sum(is_dog for is_dog, _ in ranked)
    cats = len(ranked) - dogs
    if not dogs or not cats:
        return []
    points = [(0.0, 0.0)]
    false = true = 0
    for place, (is_dog, probability) in enumerate(ranked):
        true, false = true + is_dog, false + (not is_dog)
        if place + 1 == len(ranked) or ranked[place + 1][1] != probability:
            points.append((false / cats, true / dogs))
    return points


def area(points: Sequence[tuple[float, float]]) -> float:
    """Return the area under a ROC curve: how often a dog gets a higher probability than a cat, ties counted half."""
    return sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in pairwise(points))


class Bin(NamedTuple):
    """The images whose probability is in one tenth of [0, 1]."""

    images: int
    dogs: int
    mean: float
    """Of the probabilities."""


def calibration(outcomes: Iterable[Outcome], bins: int = 10) -> list[Bin]:
    """Return the bins that have images, from 0 to 1. A probability on a border is in the upper bin, 1 in the last."""
    borders = [border / bins for border in range(1, bins)]
    binned: list[list[Outcome]] = [[] for _ in range(bins)]
    for outcome in outcomes:
        binned[bisect_right(borders, outcome[1])].append(outcome)
    return [
        Bin(len(part), sum(is_dog for is_dog, _ in part), sum(probability for _, probability in part) / len(part))
        for part in binned
        if part
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error: how far shares are from probabilities, averaged over the images."""
    images = sum(bin.images for bin in bins)
    return sum(abs(bin.dogs - bin.images * bin.mean) for bin in bins) / images
