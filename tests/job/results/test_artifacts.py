"""The model's metrics in metrics.json, against an evaluation of the published model by Keras itself."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from catsdogs.results import names
from catsdogs.results.artifacts import WRITERS
from tests.conftest import Catsdogs
from tests.published import rows
from tests.workers import RUN_ID, started

EVALUATE = """
import sys, json, pathlib, keras, numpy as np
from catsdogs.data.images import decode
model = keras.models.load_model(sys.argv[1])
size = model.input_shape[1]
paths = sorted(pathlib.Path(sys.argv[2]).rglob(f"{sys.argv[3]}/*/*.jpg"))
images = np.stack([decode(path.read_bytes(), (size, size)) for path in paths]) / np.float32(255)
dogs = np.array([path.name.startswith("dog") for path in paths])
model.compile(loss="binary_crossentropy", metrics=["accuracy"])
loss, accuracy = model.evaluate(images, dogs, verbose=0)
print(json.dumps({"loss": loss, "images": len(paths), "correct": round(accuracy * len(paths))}))
"""


def evaluated(run: Path, volume: Path, split: str) -> dict[str, Any]:
    """What Keras says about the published model on a split's images, of all workers that share the volume."""
    process = subprocess.run(
        [sys.executable, "-c", EVALUATE, str(run / "model.keras"), str(volume), split],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    result: dict[str, Any] = json.loads(process.stdout)
    return result


def test_every_artifact_has_a_writer() -> None:
    assert {*WRITERS, names.MODEL, *names.TENSORBOARD.values()} == set(names.TRAINED)


@pytest.mark.slow
def test_each_split_has_the_model_s_own_metrics(sample_archive: Path, catsdogs: Catsdogs, tmp_path: Path) -> None:
    """Dropout and augmentation make the training's running means differ from them."""
    process = catsdogs(
        "run", f"--archive={sample_archive}", "--output=runs", "--volume=volume", "--run-id=x", "--recipe=augmented",
        "--epochs=4", "--train-per-class=14", "--validation-per-class=4", "--test-per-class=6", "--image-size=64",
        "--batch-size=5", "--learning-rate=0.003",
    )  # fmt: skip
    assert (process.returncode, process.stderr) == (0, "")
    run = tmp_path / "runs/x"
    metrics = json.loads((run / "metrics.json").read_bytes())
    assert metrics["format"] == 1
    for split in ("train", "validation", "test"):
        expected = evaluated(run, tmp_path / "volume", split)
        assert metrics[split]["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert metrics[split]["accuracy"] == pytest.approx(expected["correct"] / expected["images"])
    assert (metrics["train"]["images"], metrics["train"]["correct"]) == (28, round(28 * metrics["train"]["accuracy"]))
    best = rows((run / "history.csv").read_bytes())[metrics["best_epoch"] - 1]
    assert float(best["loss"]) != pytest.approx(metrics["train"]["loss"], rel=1e-3)
    page = (run / "report.html").read_text().replace("\u00a0", " ")
    accuracy, loss = metrics["train"]["accuracy"], metrics["train"]["loss"]
    assert f'<th scope="row">train</th><td>{100 * accuracy:.1f} %</td><td>{loss:.4f}</td>' in page


def test_metrics_of_several_workers_are_those_of_all_images(sample_archive: Path, tmp_path: Path) -> None:
    with started(2, tmp_path, sample_archive, "--epochs=1") as jobs:
        assert [job.wait() for job in jobs] == [0, 0], [job.stderr for job in jobs]
    run = tmp_path / "runs" / RUN_ID
    metrics = json.loads((run / "metrics.json").read_bytes())
    expected = evaluated(run, tmp_path / "volume", "train")
    assert (metrics["train"]["images"], metrics["train"]["correct"]) == (28, expected["correct"])
    assert metrics["train"]["loss"] == pytest.approx(expected["loss"], rel=1e-4)
