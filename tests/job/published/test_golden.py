"""Runs that older versions published are verified, listed and used. See tests/golden."""

import csv
import json
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Catsdogs
from tests.published import files

GOLDEN = REPOSITORY / "tests/golden"
RUN_ID = "baseline-0c2cfecc"
OUTPUTS = ["runs", "runs-before-tensorboard"]


@pytest.mark.parametrize("output", OUTPUTS)
def test_it_is_intact(output: str, catsdogs: Catsdogs) -> None:
    process = catsdogs("verify", GOLDEN / output / RUN_ID)
    assert (process.returncode, process.stderr) == (0, "")
    count = len(files(GOLDEN / output / RUN_ID)) - 1
    assert f"verified run {RUN_ID}: its {count} artifacts" in process.stdout
    [run] = json.loads(catsdogs("runs", f"--output={GOLDEN / output}", "--json").stdout)
    metrics = json.loads((GOLDEN / output / RUN_ID / "metrics.json").read_bytes())
    assert (run["state"], run["status"], run["problem"]) == ("published", "published", None)
    assert run["test_accuracy"] == metrics["test"]["accuracy"]


@pytest.mark.parametrize("output", OUTPUTS)
def test_its_accuracy_is_reproduced(output: str, catsdogs: Catsdogs) -> None:
    """But for the training images, about which it claims nothing of its model."""
    process = catsdogs(
        "verify", GOLDEN / output / RUN_ID, "--accuracy", f"--archive={GOLDEN / 'dogs-vs-cats.zip'}",
        "--further-per-class=2", "--log-format=json",
    )  # fmt: skip
    assert (process.returncode, process.stderr) == (0, "")
    events = [json.loads(line)["event"] for line in process.stdout.splitlines()]
    assert [event for event in events if event in ("reproduced", "train-reproduced", "further")] == [
        "reproduced", "further",
    ]  # fmt: skip


@pytest.mark.parametrize("output", OUTPUTS)
def test_its_model_is_used(output: str, catsdogs: Catsdogs) -> None:
    published = list(csv.DictReader((GOLDEN / output / RUN_ID / "predictions.csv").read_text().splitlines()))
    [split] = (GOLDEN / "volume/splits").iterdir()
    process = catsdogs("predict", split / "test", f"--model={GOLDEN / output / RUN_ID}", "--format=json")
    assert (process.returncode, process.stderr) == (0, "")
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    assert [Path(line["image"]).name for line in lines] == [Path(row["image"]).name for row in published]
    # Another processor may round otherwise; and the older version decoded some images a little differently.
    tolerance = 1e-4 if output == "runs" else 1e-2
    expected = [float(row["probability"]) for row in published]
    assert [line["dog"] for line in lines] == pytest.approx(expected, abs=tolerance)
