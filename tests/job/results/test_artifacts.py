"""The model's metrics in metrics.json, against an evaluation of the published model by Keras itself."""

import json
from pathlib import Path

import pytest

from catsdogs.results import names
from catsdogs.results.artifacts import WRITERS
from tests.conftest import Catsdogs
from tests.published import evaluated, rows


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
