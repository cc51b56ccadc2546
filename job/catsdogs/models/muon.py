"""Muon for convolutions: their kernels' updates change every direction by the same amount."""

import math
from typing import Any

from keras import ops, optimizers


class Muon(optimizers.Muon):  # type: ignore[misc]  # Keras has no types
    """Keras' Muon (Jordan and others, 2024) for the kernels of convolutions, which Keras' own leaves to Adam.

    A kernel height×width×in×out is taken for a matrix of height · width · in rows and out columns. The momentum's
    singular values are all made about one, and the step is scaled to the size of Adam's (Liu and others, Muon is
    scalable for LLM training, 2025). All other variables are Adam's.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) != 4

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        return ops.reshape(super().zeropower_via_newtonschulz5(ops.reshape(x, (-1, x.shape[-1])), steps), x.shape)

    def lr_adjust(self, x: Any) -> Any:
        return x * (self.rms_rate * math.sqrt(max(math.prod(x.shape[:-1]), x.shape[-1])))
