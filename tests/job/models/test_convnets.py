"""The convnets' seeds: a run's weights follow from them."""

from collections.abc import Iterator

import numpy as np
import pytest

from catsdogs.config.recipes import RECIPES


def seeds(part: object) -> Iterator[object]:
    """The seeds in a model's configuration, in its order."""
    if isinstance(part, dict):
        for name, value in part.items():
            yield from [value] if name == "seed" else seeds(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from seeds(value)


@pytest.mark.parametrize(("name", "count"), [("baseline", 6), ("augmented", 7), ("xception", 28), ("compact", 11)])
def test_every_initializer_and_dropout_has_a_seed_in_the_order_of_all_versions(name: str, count: int) -> None:
    """Another order would give other weights for the same options, so runs of older versions could not be repeated."""
    random = np.random.default_rng(7)
    model = RECIPES[name].model(48, 7)
    assert list(seeds(model.get_config())) == [int(random.integers(2**31)) for _ in range(count)]


def test_another_seed_gives_other_weights() -> None:
    [first, other] = [RECIPES["baseline"].model(48, seed).get_weights()[0] for seed in (0, 1)]
    assert (first != other).any()
