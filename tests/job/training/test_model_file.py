"""The same training gives the same `model.keras`, byte for byte: equal runs have equal digests in their manifests."""

import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests import warm
from tests.conftest import REPOSITORY, environment_in
from tests.published import weights

SAVE = """
import os, sys
from pathlib import Path
from catsdogs.config.recipes import RECIPES
from catsdogs.training import devices

os.umask(int(sys.argv[2], 8))
on = devices.start(require_gpu=False)
from catsdogs.training.step import Learner

if sys.argv[3] == "scarce":
    # Keras then writes the weights in another way.
    from keras.src.saving import saving_lib

    saving_lib.is_memory_sufficient = lambda model: False
learner = Learner(RECIPES["compact"], 32, 0.01, 0, on, 10)
learner.save(Path(sys.argv[1]))
"""
HOSTS = [
    ("022", "plenty", {"TZ": "UTC", "PYTHONHASHSEED": "1", "MALLOC_PERTURB_": "85"}),
    ("077", "scarce", {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "2", "MALLOC_PERTURB_": "170"}),
]
"""Umask, memory and environment: of two machines."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same model, saved on each of HOSTS at another time."""
    paths = []
    for umask, memory, environment in HOSTS:
        paths.append(tmp_path_factory.mktemp("host") / "model.keras")
        subprocess.run(
            [sys.executable, "-c", SAVE, paths[-1], umask, memory],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "job"), **environment},
            check=True,
        )
        # A zip counts in steps of two seconds.
        time.sleep(2)
    return paths


def test_another_time_and_machine_give_the_same_bytes(saved: list[Path]) -> None:
    first, second = (zipfile.ZipFile(path) for path in saved)
    assert first.namelist() == second.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
    for name in first.namelist():
        assert first.read(name) == second.read(name), name
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in saved}) == 1


def test_keras_opens_it_as_one_of_its_own(saved: list[Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(saved[0]) as file:
        assert file.testzip() is None
        assert {member.compress_type for member in file.infolist()} == {zipfile.ZIP_STORED}
        assert json.loads(file.read("metadata.json")).keys() == {"keras_version", "date_saved"}
    script = (
        "import keras, numpy, sys; model = keras.models.load_model(sys.argv[1]);"
        "model.save(sys.argv[2]); assert model(numpy.zeros((1, 32, 32, 3))).shape == (1, 1)"
    )
    again = tmp_path / "again.keras"
    opened = warm.python(script, saved[0], again, env=environment_in(tmp_path), directory=tmp_path)
    assert opened.returncode == 0, opened.stderr
    for expected, value in zip(*(weights(path.read_bytes(), tmp_path) for path in (saved[0], again)), strict=True):
        np.testing.assert_array_equal(expected, value)
