"""Batch normalization that is one operation learns what Keras' own does, and is Keras' own once it is saved."""

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from catsdogs.models import convnets
from catsdogs.models.batch_normalization import FusedBatchNormalization, fused, of_keras, rebuilt


def _trained(kind: type[keras.layers.Layer], images: Any, policy: str, upstream: Any) -> list[Any]:
    """Outputs, their gradients by inputs, scale and offset, and the moving statistics, after one training step."""
    layer = kind(momentum=0.9, epsilon=1e-5, dtype=policy)
    layer.build(images.shape)
    layer.gamma.assign(np.linspace(0.5, 2, images.shape[-1]))
    layer.beta.assign(np.linspace(-1, 1, images.shape[-1]))
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images, training=True)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * upstream)
    return [outputs, *tape.gradient(loss, [images, layer.gamma, layer.beta]), layer.moving_mean, layer.moving_variance]


@pytest.mark.parametrize("shape", [(6, 5, 7, 4), (1, 1, 1, 4)])
@pytest.mark.parametrize(("policy", "near"), [("float32", 1e-4), ("mixed_bfloat16", 2e-2), ("mixed_float16", 4e-3)])
def test_it_learns_what_keras_does(shape: tuple[int, ...], policy: str, near: float) -> None:
    random = np.random.default_rng(0)
    images, upstream = (tf.constant(random.normal(2, 3, shape), tf.float32) for _ in range(2))
    ours, theirs = (
        _trained(kind, images, policy, upstream) for kind in (FusedBatchNormalization, keras.layers.BatchNormalization)
    )
    assert ours[0].dtype == theirs[0].dtype
    for one, other in zip(ours, theirs, strict=True):
        other = np.asarray(other).astype(np.float32)
        assert np.asarray(one).astype(np.float32) == pytest.approx(
            other, rel=near, abs=near * float(np.abs(other).max())
        )


def test_it_is_one_operation() -> None:
    model = rebuilt(convnets.compact(32), fused)
    step = tf.function(lambda images: model(images, training=True)).get_concrete_function(tf.TensorSpec((2, 32, 32, 3)))
    operations = [operation.type for operation in step.graph.get_operations()]
    assert operations.count("FusedBatchNormV3") == sum("moving_mean" in weight.path for weight in model.weights)
    assert "SquaredDifference" not in operations


def test_saved_it_is_of_keras(tmp_path: Path) -> None:
    """The file describes it byte for byte as if it had never been another."""
    recipe = convnets.compact(32)
    told = []
    for name, model in {"usual": rebuilt(recipe, dict), "learned": rebuilt(rebuilt(recipe, fused), of_keras)}.items():
        model.save(tmp_path / f"{name}.keras")
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as opened:
            told.append(opened.read("config.json"))
    assert told[0] == told[1]
    assert b"moving_mean" in told[0]
