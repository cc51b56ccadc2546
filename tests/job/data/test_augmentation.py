import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from catsdogs.config.recipes import RECIPES
from catsdogs.data.augmentation import DRAWS, Augmentation

BOOK = RECIPES["augmented"].augmentation
NONE = [0.0] * DRAWS


def picture(size: int = 41) -> NDArray[np.uint8]:
    """Every pixel tells where it is: x in red, y in green."""
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    return np.stack([4 * x, 4 * y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def test_the_book_distorts_as_it_says() -> None:
    assert (
        Augmentation(rotation=40, width_shift=0.2, height_shift=0.2, shear=0.2, zoom=0.2, horizontal_flip=True) == BOOK
    )


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
    alike = place(of(Augmentation(zoom=0.2, keep_ratio=True), 0, 0, 0, 0, first, second), x + 10, y + 10)
    assert alike == pytest.approx([x + 10 * (1 + 0.2 * first), y + 10 * (1 + 0.2 * first)])


def test_what_comes_in_from_beyond_an_edge_repeats_the_edge() -> None:
    image = np.full((20, 20, 3), 200, np.uint8)
    for index in range(20):
        assert (Augmentation(rotation=45, width_shift=0.5, zoom=0.3).applied(image, 0, 0, index) == 200).all()


def test_or_it_mirrors_the_image() -> None:
    image = picture(20)
    moved = Augmentation(width_shift=0.25, reflect=True)
    for index in range(20):
        distorted = moved.applied(image, 0, 0, index)
        right = round(moved.matrix(np.random.default_rng([0, 0, index]).uniform(-1, 1, DRAWS).tolist(), 20, 20)[0][2])
        beyond = distorted[5, -right - 1 :: -1] if right < 0 else distorted[5, 20 - right :]
        within = distorted[5, -right : -2 * right] if right < 0 else distorted[5, 20 - 2 * right : 20 - right][::-1]
        assert beyond[:, 0] == pytest.approx(within[:, 0], abs=6)


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


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_a_crop_lies_within_the_image(right: float, down: float, wide: float, high: float) -> None:
    """It shows the share that it says, its sides' ratio within a third, whatever the size that it is shown at."""
    crop = Augmentation(crop=0.3, scale=0.5)
    matrix = crop.matrix([0, 0, right, down, wide, high, *NONE][:DRAWS], 100, 200)
    left, top = place(matrix, -0.5, -0.5)
    end, bottom = place(matrix, 99.5, 49.5)
    assert -0.501 <= left < end <= 199.501
    assert -0.501 <= top < bottom <= 99.501
    width, height = (end - left) / 200, (bottom - top) / 100
    assert 3 / 4 - 1e-9 <= width / height <= 4 / 3 + 1e-9
    # Where the rectangle would be longer than the image, it is cut.
    assert width * height == pytest.approx(1 - 0.7 * (1 + wide) / 2) or max(width, height) == pytest.approx(1)


def test_the_corners_of_all_crops_reach_the_edges() -> None:
    ends = [Augmentation(crop=0.5).matrix([0, 0, side, side, 1, 0, *NONE][:DRAWS], 64, 64) for side in (-1, 1)]
    assert place(ends[0], -0.5, -0.5) == pytest.approx([-0.5, -0.5])
    assert place(ends[1], 63.5, 63.5) == pytest.approx([63.5, 63.5])


def test_the_distorted_image_may_be_smaller() -> None:
    image = np.repeat(np.repeat(picture(24), 2, axis=0), 2, axis=1)
    smaller = Augmentation(scale=0.5).applied(image, 0, 0, 0)
    assert smaller.shape == (24, 24, 3)
    assert np.array_equal(smaller, picture(24))
    assert Augmentation(scale=5 / 6).applied(image, 0, 0, 0).shape == (40, 40, 3)


def coloured(augmentation: Augmentation, *draws: float) -> NDArray[np.float64]:
    """What becomes of three colours, the values' mean being 100."""
    colours = np.array([[100, 100, 100], [200, 50, 30], [0, 0, 0]], float)
    matrix = np.array(augmentation.colours([*NONE[:7], *draws], 100))
    changed: NDArray[np.float64] = np.c_[colours, np.ones(3)] @ matrix.T
    return changed


def test_each_colour_setting_alone() -> None:
    assert coloured(Augmentation(brightness=0.2), 1, 0, 0)[1] == pytest.approx([240, 60, 36])
    assert coloured(Augmentation(contrast=0.5), 0, -1, 0)[1] == pytest.approx([150, 75, 65])
    assert coloured(Augmentation(contrast=0.5), 0, -1, 0)[0] == pytest.approx([100, 100, 100])
    grey = 0.299 * 200 + 0.587 * 50 + 0.114 * 30
    assert coloured(Augmentation(saturation=1), 0, 0, -1)[1] == pytest.approx([grey] * 3)
    assert coloured(Augmentation(saturation=0.5), 0, 0, 1)[1] == pytest.approx(
        [c + 0.5 * (c - grey) for c in (200, 50, 30)]
    )


def test_colours_are_held_to_what_a_pixel_can_be() -> None:
    image = np.full((8, 8, 3), 250, np.uint8)
    values = {int(Augmentation(brightness=0.4).applied(image, 0, 0, index)[0, 0, 0]) for index in range(40)}
    assert max(values) == 255
    assert 150 <= min(values) < 170
