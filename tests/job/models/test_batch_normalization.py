"""Batch normalization that is one operation learns what Keras' own does, and is Keras' own once it is saved."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catsdogs.models import convnets
from catsdogs.models.protocols import Model

# TensorFlow is imported by the tests: every process that collects them would spend seconds on it.


def _trained(kind: Any, images: Any, policy: str, upstream: Any) -> list[Any]:
    """Outputs, their gradients by inputs, scale and offset, and the moving statistics, after one training step."""
    import tensorflow as tf

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
    import keras
    import tensorflow as tf

    from catsdogs.models.batch_normalization import FusedBatchNormalization

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
    import tensorflow as tf

    from catsdogs.models.batch_normalization import fused

    model = fused(convnets.compact(32, 0))
    step = tf.function(lambda images: model(images, training=True)).get_concrete_function(tf.TensorSpec((2, 32, 32, 3)))
    operations = [operation.type for operation in step.graph.get_operations()]
    assert operations.count("FusedBatchNormV3") == sum("moving_mean" in weight.path for weight in model.weights)
    assert "SquaredDifference" not in operations


def test_a_seed_gives_the_same_weights() -> None:
    from catsdogs.models.batch_normalization import fused

    model = fused(convnets.compact(32, 5))
    for one, other in zip(model.get_weights(), convnets.compact(32, 5).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("convnet", [convnets.compact, convnets.xception, convnets.augmented])
def test_a_saved_model_has_keras_own(convnet: Callable[[int, int], Model], mirrored: bool, tmp_path: Path) -> None:
    """The file describes the model byte for byte as if it had never been another."""
    import keras

    from catsdogs.models.batch_normalization import fused, unfused

    def described(model: Model) -> bytes:
        model.save(tmp_path / "model.keras")
        with zipfile.ZipFile(tmp_path / "model.keras") as opened:
            return opened.read("config.json")

    usual = convnet(48, 0)
    trained = fused(usual)
    if mirrored:
        usual, trained = convnets.mirrored(usual, 48), convnets.mirrored(trained, 48)
    usual, saved = keras.models.clone_model(usual, recursive=True), unfused(trained)
    assert b"Fused" not in described(saved)
    # Keras numbers these by how many of them the process has made.
    numbered = re.compile(rb"(flip|average)(_\d+)?")
    assert numbered.sub(b"", described(saved)) == numbered.sub(b"", described(usual))
    images = np.random.default_rng(0).random((2, 48, 48, 3), np.float32)
    saved.set_weights(trained.get_weights())
    assert saved(images).numpy() == pytest.approx(trained(images).numpy(), rel=1e-5)
