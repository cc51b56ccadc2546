"""What the job uses of Keras' models, optimizers and variables, which have no types of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import tensorflow as tf


class Variable(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def numpy(self) -> NDArray[np.generic]: ...
    def assign(self, value: ArrayLike) -> object: ...


class Layer(Protocol):
    @property
    def output(self) -> tf.Tensor: ...
    @property
    def weights(self) -> Sequence[Variable]: ...


class Model(Protocol):
    """A `keras.Model` from images, N×height×width×3 in [0, 1], to the probabilities of a dog, N×1 float32."""

    @property
    def name(self) -> str: ...
    @property
    def input_shape(self) -> tuple[int | None, ...]: ...
    @property
    def output_shape(self) -> tuple[int | None, ...]: ...
    @property
    def layers(self) -> Sequence[Layer]: ...
    @property
    def variables(self) -> Sequence[Variable]:
        """The weights, and the states of random generators."""

    @property
    def trainable_variables(self) -> Sequence[Variable]: ...
    @property
    def weights(self) -> Sequence[Variable]: ...
    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor: ...
    def get_config(self) -> dict[str, object]: ...
    def count_params(self) -> int: ...
    def get_weights(self) -> list[NDArray[np.generic]]: ...
    def set_weights(self, weights: Sequence[NDArray[np.generic]]) -> None: ...
    def save(self, path: Path) -> None: ...
    def export(self, path: str, *, format: str, verbose: bool, input_signature: Sequence[tf.TensorSpec]) -> None: ...


class Optimizer(Protocol):
    """A `keras.Optimizer`."""

    @property
    def learning_rate(self) -> tf.Tensor:
        """The rate of the next step."""

    @property
    def iterations(self) -> Variable:
        """The steps taken so far."""

    @property
    def variables(self) -> Sequence[Variable]: ...
    def build(self, variables: Sequence[Variable]) -> None: ...
    def apply(self, gradients: Sequence[tf.Tensor], variables: Sequence[Variable]) -> None: ...
