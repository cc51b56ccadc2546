"""Volumes that older versions left: their splits are used, their runs resumed and published. See tests/golden."""

import csv
import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests import warm
from tests.conftest import REPOSITORY, Catsdogs, environment_in
from tests.published import check_manifest, files

COMMON = (
    "--archive=dogs-vs-cats.zip", "--output=runs", "--volume=volume", "--train-per-class=12",
    "--validation-per-class=4", "--test-per-class=4", "--batch-size=5",
)  # fmt: skip
RUNS = {
    "baseline-0c2cfecc": ("--recipe=baseline", "--image-size=48", "--epochs=24", "--learning-rate=0.006", "--seed=1"),
    "augmented-e82ea8d8": ("--recipe=augmented", "--image-size=48", "--epochs=4", "--learning-rate=0.01", "--seed=2"),
    "compact-17847e2e": ("--recipe=compact", "--image-size=32", "--epochs=4", "--learning-rate=0.1", "--seed=0"),
}
LAUNCH = """
from catsdogs.runtime.signals import Interruption
interruption = Interruption()
interruption.install()
from catsdogs.config.recipes import RECIPES
from tests.golden.tiny import shrink
shrink(RECIPES)
from catsdogs.cli import main
main(interruption)
"""
"""The command, with the small models that the golden files are of."""


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy of the golden files, the published runs out of the way."""
    shutil.copytree(REPOSITORY / "tests/golden", tmp_path, dirs_exist_ok=True)
    (tmp_path / "runs").rename(tmp_path / "earlier")
    return tmp_path


def small(golden: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return warm.python(LAUNCH, *arguments, env=environment_in(golden), directory=golden, timeout=240)


def weights(model: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    found = {}
    with zipfile.ZipFile(model) as file, h5py.File(io.BytesIO(file.read("model.weights.h5"))) as opened:
        opened.visititems(
            lambda name, item: found.update({f"weights/{name}": item[()]}) if isinstance(item, h5py.Dataset) else None
        )
    return found


@pytest.mark.parametrize("run_id", ["augmented-e82ea8d8", "compact-17847e2e"])
def test_an_interrupted_run_is_resumed_to_the_same_end(golden: Path, run_id: str) -> None:
    process = small(golden, "run", *COMMON, *RUNS[run_id])
    assert process.returncode == 0, process.stderr
    assert "split volume/splits/643b8dac28e0f215 is complete and verified" in process.stdout
    assert "resuming at epoch 2/4, step 3/5" in process.stdout
    run = golden / "runs" / run_id
    check_manifest(files(run))
    expected = np.load(golden / f"expected/{run_id}.npz")
    rows = list(csv.DictReader((run / "history.csv").read_text().splitlines()))
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert [float(row[name]) for row in rows] == pytest.approx(expected[f"history/{name}"].tolist(), rel=1e-3)
    predictions = list(csv.DictReader((run / "predictions.csv").read_text().splitlines()))
    assert [row["image"] for row in predictions] == expected["predictions/images"].tolist()
    # Another processor may round otherwise than that which made them.
    probabilities = [float(row["probability"]) for row in predictions]
    assert probabilities == pytest.approx(expected["predictions/probabilities"].tolist(), abs=1e-3)
    found = weights(run / "model.keras")
    assert found.keys() == {name for name in expected.files if name.startswith("weights/")}
    for name, values in found.items():
        assert values == pytest.approx(expected[name], rel=1e-2, abs=1e-3)


def test_a_trained_run_is_published(golden: Path, catsdogs: Catsdogs) -> None:
    run_id = "baseline-0c2cfecc"
    earlier, work = golden / "earlier" / run_id, golden / "volume/work" / run_id
    for name, data in files(earlier).items():
        if name not in ("log.jsonl", "manifest.json"):
            (work / "artifacts" / name).parent.mkdir(parents=True, exist_ok=True)
            (work / "artifacts" / name).write_bytes(data)
    process = catsdogs("publish", *COMMON, *RUNS[run_id])
    assert process.returncode == 0, process.stderr
    published = files(golden / "runs" / run_id)
    check_manifest(published)
    changed = {name for name, data in files(earlier).items() if published[name] != data}
    assert changed == {"log.jsonl", "manifest.json"}


def test_a_split_is_used_again(golden: Path, catsdogs: Catsdogs) -> None:
    process = catsdogs("prepare", *COMMON, *RUNS["baseline-0c2cfecc"], "--run-id=new")
    assert process.returncode == 0, process.stderr
    assert "split volume/splits/643b8dac28e0f215 is complete and verified: 40 images" in process.stdout
