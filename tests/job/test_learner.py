"""The training step on one device and on several: two logical CPUs stand in for two GPUs."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import REPOSITORY

SCRIPT = """
import json, os, sys
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow")
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1]))
from job import devices
from job.batches import Batch
from job.learner import Learner
from job.recipes import RECIPES
found = devices.start(require_gpu=False)
learner = Learner(RECIPES["baseline"], 46, 1e-3, 3, found)
random = np.random.default_rng(1)
totals, told = tf.zeros(3, tf.float64), []
for size in (6, 6, 5, 1):
    batch = Batch(random.random((size, 46, 46, 3), np.float32), random.integers(0, 2, size).astype(np.float32))
    totals = learner.train_step(batch, totals)
    told.append(totals.numpy().tolist())
tested = learner.test_step(batch, tf.zeros(3, tf.float64)).numpy().tolist()
weights = [float(np.abs(weight).sum()) for weight in learner.weights()]
state = learner.state()
learner.train_step(batch, totals)
learner.restore(state)
restored = [float(np.abs(weight).sum()) for weight in learner.weights()]
parts = {"told": told, "tested": tested, "weights": weights, "restored": restored}
print(json.dumps({"replicas": found.replicas, **parts}))
"""


def test_two_devices_learn_what_one_learns() -> None:
    """Also from batches that two do not divide, and from one with fewer images than devices."""
    one, two = (
        json.loads(
            subprocess.run(
                [sys.executable, "-c", SCRIPT, str(devices)],
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            ).stdout
        )
        for devices in (1, 2)
    )
    assert (one["replicas"], two["replicas"]) == (1, 2)
    assert [counted[2] for counted in two["told"]] == [6, 12, 17, 18]
    for part in ("told", "tested", "weights"):
        assert np.ravel(two[part]) == pytest.approx(np.ravel(one[part]), rel=1e-4), part
    assert one["restored"] == one["weights"]
    assert two["restored"] == two["weights"]
