"""Batch normalization that trains faster than Keras', for training only: a saved model has Keras' own."""

from __future__ import annotations

import tensorflow as tf
from keras import layers, models

from catsdogs.models.protocols import Model


class FusedBatchNormalization(layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
    """Keras' own for N×H×W×C, trained by a single TensorFlow operation instead of ten that each pass over all values.

    It has the same configuration and weights. Does not support masks.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        if not (training and self.trainable):
            return super().call(inputs, training, mask)
        scale, offset = (tf.cast(values, tf.float32) for values in (self.gamma, self.beta))
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=scale, offset=offset, mean=[], variance=[], epsilon=self.epsilon
        )
        # TensorFlow divides the sum of squares by the number of values less one, Keras by the number of values.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance * (count - 1) / count)):
            moving.assign(moving * self.momentum + value * (1 - self.momentum))
        return outputs


def fused(model: Model) -> Model:
    """Return a copy of the model that has FusedBatchNormalization in place of Keras' own; see `_copy`."""
    return _copy(model, layers.BatchNormalization, FusedBatchNormalization)


def unfused(model: Model) -> Model:
    """Undo `fused`. The copy's configuration is the same in every process, unlike that of a model not copied.

    Keras writes memory addresses into the configuration of layers that share a dtype policy, as a copy's do not.
    """
    return _copy(model, FusedBatchNormalization, layers.BatchNormalization)


def _copy(model: Model, old: type[layers.Layer], new: type[layers.Layer]) -> Model:
    """Return a copy with layers of type `new` in place of `old`, names kept, and weights initialized again.

    The inputs of a functional model must have explicit names: Keras otherwise names the copy's after their tensors.
    """

    def copy(layer: layers.Layer) -> layers.Layer:
        return (new if type(layer) is old else type(layer)).from_config(layer.get_config())

    copied: Model = models.clone_model(model, clone_function=copy, recursive=True)
    return copied
