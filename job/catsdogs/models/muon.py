"""Muon for convolutions: an update changes a kernel by the same amount in every direction."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from keras import ops, optimizers

from catsdogs.models.protocols import Variable

if TYPE_CHECKING:
    import tensorflow as tf


class Muon(optimizers.Muon):  # type: ignore[misc]  # Keras has no types
    """Keras' Muon (Jordan and others, 2024) for the kernels of convolutions, which Keras' own leaves to Adam.

    A kernel height×width×in×out is treated as a matrix of height · width · in rows and out columns. All singular values
    of its momentum are brought close to 1, and the step is scaled to the size of Adam's (Liu and others, Muon is
    scalable for LLM training, 2025). All other variables are left to Adam.
    """

    # Private, but no argument does this: `exclude_layers` and `exclude_embeddings` only take variables away from Muon,
    # and Keras gives it none that is not a matrix ("not configurable"). `build` asks here as well, so overriding
    # `update_step` instead would keep a second moment for every kernel, which checkpoints do not contain. If Keras
    # renames it, the tests fail: a kernel's update is then Adam's.
    def _should_use_adamw(self, variable: Variable) -> bool:
        return len(variable.shape) != 4

    def zeropower_via_newtonschulz5(self, x: tf.Tensor, steps: int) -> tf.Tensor:
        return ops.reshape(super().zeropower_via_newtonschulz5(ops.reshape(x, (-1, x.shape[-1])), steps), x.shape)

    def lr_adjust(self, x: tf.Tensor) -> tf.Tensor:
        return x * (self.rms_rate * math.sqrt(max(math.prod(x.shape[:-1]), x.shape[-1])))
