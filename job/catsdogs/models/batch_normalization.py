"""Batch normalization that trains in less time, and gives way to Keras' own in the model that is saved."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras import layers


class FusedBatchNormalization(layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
    """Keras' own for N×H×W×C, whose training is one of TensorFlow's operations instead of ten that each pass over all
    values. Whoever loads a saved model need not know this class: see `of_keras`. Not for masked inputs.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and self.trainable):
            return super().call(inputs, training, mask)
        scale, offset = (tf.cast(values, tf.float32) for values in (self.gamma, self.beta))
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=scale, offset=offset, mean=[], variance=[], epsilon=self.epsilon
        )
        # TensorFlow divides the squares' sum by one less than their number, Keras by their number.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance * (count - 1) / count)):
            moving.assign(moving * self.momentum + value * (1 - self.momentum))
        return outputs


def fused(part: dict[str, Any]) -> dict[str, Any]:
    """The part of a model's configuration, with the class above where it says Keras'."""
    named = part.get("class_name") == layers.BatchNormalization.__name__
    return {**part, "registered_name": FusedBatchNormalization.__name__} if named else part


def of_keras(part: dict[str, Any]) -> dict[str, Any]:
    """Undoes what `fused` does."""
    if part.get("class_name") != FusedBatchNormalization.__name__:
        return part
    return {**part, "module": "keras.layers", "class_name": "BatchNormalization", "registered_name": None}


def rebuilt(model: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """The model anew, with first weights of its own, from its configuration, whose every part `change` may replace."""

    def changed(part: Any) -> Any:
        if isinstance(part, dict):
            return change({name: changed(value) for name, value in part.items()})
        return [changed(value) for value in part] if isinstance(part, list | tuple) else part

    own = {FusedBatchNormalization.__name__: FusedBatchNormalization}
    return type(model).from_config(changed(model.get_config()), custom_objects=own)
