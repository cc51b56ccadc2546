"""The training step on one device and on several: two logical CPUs stand in for two GPUs."""

import functools
import json
import os
import subprocess
from typing import Any

import numpy as np
import pytest

from tests import warm
from tests.conftest import REPOSITORY

SCRIPT = """
import json, os, sys
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow")
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1]))
from catsdogs.training import devices
from catsdogs.data.loader import Batch
from catsdogs.training.step import Learner
from catsdogs.config.recipes import RECIPES
found = devices.start(require_gpu=False, dtype=sys.argv[3], xla=sys.argv[4] == "xla")
learner = Learner(RECIPES[sys.argv[2]], 46, 1e-3, 3, found, 8)
random = np.random.default_rng(1)
totals, after_steps = tf.zeros(3, tf.float64), []


def losses():
    "What the first steps count, and the sums of binary cross-entropy in float64."
    batch = Batch(np.random.default_rng(2).random((6, 46, 46, 3), np.float32), np.float32([0, 1, 1, 0, 1, 0]))

    def cross_entropy(model, training, smoothing):
        dog = model(batch.images, training=training).numpy()[:, 0].astype(float)
        label = batch.labels * (1 - smoothing) + smoothing / 2
        return -(label * np.log(dog) + (1 - label) * np.log(1 - dog)).sum()

    nothing = tf.zeros(3, tf.float64)
    counted = {"test": learner.test_step(batch, nothing).numpy()[0]}
    # A model that is trained changes its moving statistics.
    sums = {f"{name}, smoothing {smoothing}": cross_entropy(model, name == "train", smoothing)
            for name, model in (("test", learner.model), ("train", learner.training_model)) for smoothing in (0, 0.1)}
    return {**counted, "train": learner.train_step(batch, nothing).numpy()[0], **sums}


untrained = learner.state()
first_losses = losses() if sys.argv[1:3] == ["1", "compact"] else {}
learner.restore(untrained)
for size in (6, 6, 5, 1):
    batch = Batch(random.random((size, 46, 46, 3), np.float32), random.integers(0, 2, size).astype(np.float32))
    totals = learner.train_step(batch, totals)
    after_steps.append(totals.numpy().tolist())
tested = learner.test_step(batch, tf.zeros(3, tf.float64)).numpy().tolist()
sums = lambda arrays: [float(np.abs(array).sum()) for array in arrays]
weights = sums(learner.weights())
pair = random.random((2, 46, 46, 3), np.float32)
probabilities = {
    name: model(images, training=False).numpy()[:, 0].tolist()
    for name, model, images in (
        ("of images", learner.model, pair), ("of mirror images", learner.model, pair[:, :, ::-1]),
        ("training model", learner.training_model, pair),
        ("training model, mirrored", learner.training_model, pair[:, :, ::-1]),
    )
}
state = learner.state()
learner.train_step(batch, totals)
learner.restore(state)
try:
    learner.restore([array * 0 for array in state], learner.kinds()[::-1])
except ValueError as error:
    refused = str(error)
parts = {"after steps": after_steps, "tested": tested, "weights": weights, "restored": sums(learner.weights()),
         "parameters": learner.model.count_params(), "inputs": learner.model.input_shape,
         "computed in": learner.model.layers[0].compute_dtype, "probabilities in": str(learner.model.outputs[0].dtype),
         "state in": sorted({str(array.dtype) for array in learner.weights()}), "losses": first_losses,
         "refused": refused, **probabilities}
print(json.dumps({"replicas": found.replicas, **parts}))
"""


def ran(devices: int, recipe: str, precision: str, xla: str) -> subprocess.CompletedProcess[str]:
    """Run SCRIPT on that many devices."""
    arguments = (str(devices), recipe, precision, xla)
    return warm.python(SCRIPT, *arguments, env={"PATH": os.environ["PATH"]}, directory=REPOSITORY)


@functools.cache
def learned(devices: int, recipe: str, precision: str = "float32", xla: str = "") -> dict[str, Any]:
    """Return what SCRIPT prints."""
    process = ran(devices, recipe, precision, xla)
    assert process.returncode == 0, process.stderr
    results: dict[str, Any] = json.loads(process.stdout)
    assert results["replicas"] == devices
    assert [counted[2] for counted in results["after steps"]] == [6, 12, 17, 18]
    assert results["restored"] == results["weights"]
    assert results["refused"] == "kernel was 'velocity'", "same shapes in another order"
    return results


@pytest.mark.slow
def test_two_devices_learn_what_one_learns() -> None:
    """Also from batches that two do not divide, and from one with fewer images than devices."""
    one, two = (learned(devices, "baseline") for devices in (1, 2))
    for part in ("after steps", "tested", "weights"):
        assert np.ravel(two[part]) == pytest.approx(np.ravel(one[part]), rel=1e-4), part


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_mirrored_predictions_are_the_mean_of_both_images(devices: int) -> None:
    """On two devices, each normalizes its own part of a batch, so the weights differ from those of one device."""
    results = learned(devices, "compact")
    assert results["of images"] == pytest.approx(results["of mirror images"])
    assert results["of images"] == pytest.approx(
        np.mean([results["training model"], results["training model, mirrored"]], axis=0)
    )
    assert results["training model"] != pytest.approx(results["training model, mirrored"], rel=1e-3)
    assert (results["parameters"], results["inputs"]) == (1_212_385, [None, 46, 46, 3])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "xla", "near"),
    [("mixed_bfloat16", "", 0.1), ("float32", "xla", 1e-3)],
)
def test_other_arithmetic_learns_nearly_the_same(precision: str, xla: str, near: float) -> None:
    usual, other = learned(1, "baseline"), learned(1, "baseline", precision, xla)
    assert np.ravel(other["after steps"]) == pytest.approx(np.ravel(usual["after steps"]), rel=near)
    assert other["tested"][0] == pytest.approx(usual["tested"][0], rel=near)
    assert other["after steps"] != usual["after steps"], "it was not used"
    assert other["computed in"] == ("bfloat16" if precision == "mixed_bfloat16" else "float32")
    assert (other["probabilities in"], other["state in"]) == ("float32", ["float32"])


@pytest.mark.slow
def test_labels_are_smoothed_in_training_only() -> None:
    """So that validation losses compare between recipes with and without smoothing."""
    losses = learned(1, "compact")["losses"]
    assert losses["train"] == pytest.approx(losses["train, smoothing 0.1"], rel=1e-4)
    assert losses["test"] == pytest.approx(losses["test, smoothing 0"], rel=1e-4)
    for step in ("train", "test"):
        assert losses[f"{step}, smoothing 0"] != pytest.approx(losses[f"{step}, smoothing 0.1"], rel=1e-3)


def test_xla_is_for_one_device() -> None:
    process = ran(2, "baseline", "float32", "xla")
    assert process.returncode == 1
    assert "ConfigError: --xla supports one device, and there are 2" in process.stderr
