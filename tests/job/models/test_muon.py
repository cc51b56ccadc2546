"""Muon for convolutions does with a kernel what Keras' does with the matrix it is taken for."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


def changes(optimizer: Any, shape: tuple[int, ...], steps: int = 3) -> NDArray[np.float32]:
    """What the last of some steps with drawn gradients changes of a variable that was 0."""
    import keras

    random = np.random.default_rng(0)
    variable = keras.Variable(np.zeros(shape, np.float32))
    optimizer.build([variable])
    for _ in range(steps):
        before = variable.numpy()
        optimizer.apply([keras.ops.convert_to_tensor(random.normal(size=shape), "float32")], [variable])
    difference: NDArray[np.float32] = variable.numpy() - before
    return difference


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (1, 1, 8, 32)])
def test_a_kernel_is_a_matrix(shape: tuple[int, ...]) -> None:
    import keras

    from catsdogs.models.muon import Muon

    rows, columns = int(np.prod(shape[:-1])), shape[-1]
    ours = changes(Muon(0.01), shape).reshape(rows, columns)
    assert ours == pytest.approx(changes(keras.optimizers.Muon(0.01), (rows, columns)), rel=1e-4, abs=1e-7)
    strengths = np.linalg.svd(ours, compute_uv=False) / (0.01 * 0.2 * max(rows, columns) ** 0.5)
    assert 0.6 < strengths.min() <= strengths.max() < 1.3


@pytest.mark.parametrize("shape", [(5, 4), (4,)])
def test_all_else_is_adams(shape: tuple[int, ...]) -> None:
    import keras

    from catsdogs.models.muon import Muon

    adam = keras.optimizers.Adam(0.01, beta_2=0.99)
    assert changes(Muon(0.01, adam_beta_2=0.99), shape) == pytest.approx(changes(adam, shape), abs=1e-5)
