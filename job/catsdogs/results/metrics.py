"""What a list of predictions says about the model: pure arithmetic, without numpy or TensorFlow.

A prediction here is a pair: whether it is a dog, and the probability of a dog that the model gave.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

Outcome = tuple[bool, float]


def wilson_interval(correct: int, images: int) -> tuple[float, float]:
    """The 95 % score interval of the share `correct` of `images`; (0, 1) when there are no images."""
    if images == 0:
        return 0.0, 1.0
    z = 1.959963984540054  # the normal distribution's 97.5 % quantile
    share, spread = correct / images, z * z / images
    centre = (share + spread / 2) / (1 + spread)
    reach = z * sqrt(share * (1 - share) / images + spread / images / 4) / (1 + spread)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def roc(outcomes: Iterable[Outcome]) -> list[tuple[float, float]]:
    """(share of cats called dog, share of dogs called dog) for every threshold, from (0, 0) to (1, 1).

    Images of one probability pass the threshold together. Empty unless there are both cats and dogs.
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
    """Under the ROC curve: the chance that a dog gets a higher probability than a cat, ties counted half."""
    return sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in pairwise(points))


class Bin(NamedTuple):
    """The images whose probability lies in one tenth of [0, 1]."""

    images: int
    dogs: int
    mean: float
    """Of the probabilities."""


def calibration(outcomes: Iterable[Outcome], bins: int = 10) -> list[Bin]:
    """The bins that hold images, from 0 to 1. A probability on a border belongs to the upper bin, 1 to the last."""
    borders = [border / bins for border in range(1, bins)]
    held: list[list[Outcome]] = [[] for _ in range(bins)]
    for outcome in outcomes:
        held[bisect_right(borders, outcome[1])].append(outcome)
    return [
        Bin(len(some), sum(is_dog for is_dog, _ in some), sum(probability for _, probability in some) / len(some))
        for some in held
        if some
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error: how far shares lie from probabilities, averaged over the images."""
    images = sum(one.images for one in bins)
    return sum(abs(one.dogs - one.images * one.mean) for one in bins) / images
