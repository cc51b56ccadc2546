import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from job.augmentation import DRAWS, Augmentation
from job.recipes import RECIPES

BOOK = RECIPES["augmented"].augmentation
NONE = [0.0] * DRAWS


def picture(size: int = 41) -> NDArray[np.uint8]:
    """Every pixel tells where it is: x in red, y in green."""
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    return np.stack([4 * x, 4 * y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def test_the_book_distorts_as_it_says() -> None:
    assert Augmentation(40, 0.2, 0.2, 0.2, 0.2, True) == BOOK


def test_without_settings_nothing_changes() -> None:
    image = picture()
    assert np.array_equal(Augmentation().applied(image, 1, 2, 3), image)


def test_an_image_follows_from_seed_epoch_and_image_alone() -> None:
    assert BOOK is not None
    image = picture()
    first = BOOK.applied(image, 1, 2, 3)
    assert np.array_equal(BOOK.applied(image, 1, 2, 3), first)
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert not np.array_equal(BOOK.applied(image, *other), first)


def test_half_of_the_images_are_mirrored() -> None:
    image = picture()
    outcomes = [Augmentation(horizontal_flip=True).applied(image, 0, 0, index) for index in range(400)]
    mirrored = sum(np.array_equal(outcome, image[:, ::-1]) for outcome in outcomes)
    assert mirrored + sum(np.array_equal(outcome, image) for outcome in outcomes) == 400
    assert 160 < mirrored < 240


def place(matrix: list[list[float]], x: float, y: float) -> list[float]:
    return [row[0] * x + row[1] * y + row[2] for row in matrix]


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_each_setting_alone(first: float, second: float) -> None:
    """Size 100×200, centre at (99.5, 49.5); numbers as ImageDataGenerator takes them."""
    height, width, x, y = 100, 200, 99.5, 49.5

    def of(augmentation: Augmentation, *draws: float) -> list[list[float]]:
        return augmentation.matrix([*draws, *NONE][:DRAWS], height, width)

    turned = place(of(Augmentation(rotation=90), first), x + 10, y)
    angle = math.radians(90 * first)
    assert turned == pytest.approx([x + 10 * math.cos(angle), y - 10 * math.sin(angle)])
    sheared = place(of(Augmentation(shear=30), 0, first), x, y + 10)
    assert sheared == pytest.approx([x, y + 10])
    sheared = place(of(Augmentation(shear=30), 0, first), x + 10, y)
    angle = math.radians(30 * first)
    assert sheared == pytest.approx([x + 10 * math.cos(angle), y - 10 * math.sin(angle)])
    moved = place(of(Augmentation(width_shift=0.2, height_shift=0.1), 0, 0, first, second), 7, 5)
    assert moved == pytest.approx([7 + 40 * first, 5 + 10 * second])
    zoomed = place(of(Augmentation(zoom=0.2), 0, 0, 0, 0, first, second), x + 10, y + 10)
    assert zoomed == pytest.approx([x + 10 * (1 + 0.2 * first), y + 10 * (1 + 0.2 * second)])


def test_what_comes_in_from_beyond_an_edge_repeats_the_edge() -> None:
    image = np.full((20, 20, 3), 200, np.uint8)
    for index in range(20):
        assert (Augmentation(rotation=45, width_shift=0.5, zoom=0.3).applied(image, 0, 0, index) == 200).all()


def test_pixels_lie_where_the_matrix_says() -> None:
    assert BOOK is not None
    size = 41
    image = picture(size)
    matrix = BOOK.matrix(np.random.default_rng([5, 0, 9]).uniform(-1, 1, DRAWS).tolist(), size, size)
    distorted = BOOK.applied(image, 5, 0, 9)
    inside = 0
    for x in range(0, size, 5):
        for y in range(0, size, 5):
            there = place(matrix, x, y)
            if all(1 <= value <= size - 2 for value in there):
                inside += 1
                assert distorted[y, x, :2] == pytest.approx([4 * value for value in there], abs=1.5)
    assert inside > 20
