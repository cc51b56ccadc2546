"""The arithmetic of the report, against definitions and known values."""

import math
import random

import pytest

from catsdogs.results import metrics


@pytest.mark.parametrize(("correct", "images"), [(727, 1000), (0, 10), (10, 10), (1, 1), (500, 1000)])
def test_interval_ends_are_the_shares_that_the_test_just_rejects(correct: int, images: int) -> None:
    low, high = metrics.wilson_interval(correct, images)
    assert 0 <= low <= correct / images <= high + 1e-12 <= 1 + 1e-12
    for share in (low, high):
        if 1e-9 < share < 1 - 1e-9:  # Wilson's definition: the observed share lies 1.96 standard errors of `share` away
            distance = abs(correct / images - share) / math.sqrt(share * (1 - share) / images)
            assert distance == pytest.approx(1.959964, rel=1e-5)


def test_interval_of_known_value() -> None:
    assert metrics.wilson_interval(727, 1000) == pytest.approx((0.69856, 0.75370), abs=5e-6)
    assert metrics.wilson_interval(0, 0) == (0, 1)


def outcomes(seed: int, images: int = 300) -> list[metrics.Outcome]:
    """With ties, and dogs somewhat likelier to get much."""
    rng = random.Random(seed)
    return [
        (dog, round(min(1, max(0, rng.gauss(0.6 if dog else 0.4, 0.2))), 2))
        for dog in rng.choices([True, False], k=images)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_area_is_the_chance_that_a_dog_gets_more_than_a_cat(seed: int) -> None:
    given = outcomes(seed)
    dogs, cats = ([p for dog, p in given if dog is kind] for kind in (True, False))
    chance = sum((d > c) + (d == c) / 2 for d in dogs for c in cats) / (len(dogs) * len(cats))
    assert metrics.area(metrics.roc(given)) == pytest.approx(chance)


def test_curve_has_each_threshold_s_shares() -> None:
    given = [(True, 0.9), (False, 0.8), (True, 0.8), (True, 0.3), (False, 0.1)]
    assert metrics.roc(given) == [(0, 0), (0, 1 / 3), (1 / 2, 2 / 3), (1 / 2, 1), (1, 1)]
    assert metrics.area(metrics.roc([(True, 0.7), (False, 0.2)])) == 1
    assert metrics.area(metrics.roc([(True, 0.5), (False, 0.5)])) == 0.5


@pytest.mark.parametrize("given", [[], [(True, 0.5)], [(False, 0.5), (False, 0.1)]])
def test_no_curve_without_both_classes(given: list[metrics.Outcome]) -> None:
    assert metrics.roc(given) == []


def test_calibration_has_each_image_in_its_tenth() -> None:
    given = [(False, 0.0), (True, 0.05), (True, 0.1), (False, 0.95), (True, 1.0)]
    bins = metrics.calibration(given)
    assert [(one.images, one.dogs) for one in bins] == [(2, 1), (1, 1), (2, 1)]
    assert [one.mean for one in bins] == pytest.approx([0.025, 0.1, 0.975])
    # |1 - 0.05| + |1 - 0.1| + |1 - 1.95| of five images
    assert metrics.calibration_error(bins) == pytest.approx((0.95 + 0.9 + 0.95) / 5)


def test_every_image_is_in_one_bin() -> None:
    given = outcomes(9, 1000)
    bins = metrics.calibration(given)
    assert sum(one.images for one in bins) == 1000
    assert sum(one.dogs for one in bins) == sum(dog for dog, _ in given)
    assert [one.mean for one in bins] == sorted(one.mean for one in bins)
