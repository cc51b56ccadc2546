"""The recipes: their sizes, their schedules, and an interrupted run of each by the real command."""

import signal
from pathlib import Path

import numpy as np
import pytest

from catsdogs.config.recipes import RECIPES
from catsdogs.config.settings import Settings
from catsdogs.models import convnets
from tests.conftest import Catsdogs
from tests.faults.running import RUN_ID, Job, at_mid_epoch
from tests.published import rows, weights


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("baseline", 3_453_121), ("augmented", 3_453_121), ("xception", 721_857), ("compact", 1_212_385)],
)
def test_parameters(name: str, parameters: int) -> None:
    """As the books print them, and docs/recipes.md for `compact`."""
    recipe = RECIPES[name]
    model = recipe.model(recipe.image_size, 0)
    assert model.count_params() == parameters
    assert model.output_shape == (None, 1)


@pytest.mark.parametrize("name", RECIPES)
def test_the_smallest_image(name: str) -> None:
    recipe = RECIPES[name]
    model = recipe.model(recipe.smallest_image_size, 0)
    assert model(np.zeros((1, *[recipe.smallest_image_size] * 2, 3), np.float32)).shape == (1, 1)


def test_the_learning_rate_rises_and_falls() -> None:
    optimizer = convnets.muon(0.1, 1600)
    rates = []
    for step in (0, 50, 100, 850, 1600):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx([0, 0.05, 0.1, 0.05, 0], abs=1e-6)


def test_the_schedule_ends_with_the_last_step() -> None:
    """An epoch's smaller last batch is a step, too."""
    given = dict.fromkeys(Settings.__dataclass_fields__)
    given |= {"recipe_name": "compact", "train_per_class": 13, "batch_size": 4, "epochs": 3, "export": (), "workers": 1}
    assert Settings.of(**given).steps == 3 * 7


def test_only_kernels_decay() -> None:
    """The gradients are 0, so nothing else changes the weights."""
    optimizer, model = convnets.muon(0.1, 16), convnets.compact(32, 0)
    optimizer.build(model.trainable_variables)
    optimizer.iterations.assign(1)
    before = [np.asarray(variable.numpy(), np.float32) for variable in model.trainable_variables]
    optimizer.apply([np.zeros_like(value) for value in before], model.trainable_variables)
    for value, variable in zip(before, model.trainable_variables, strict=True):
        share = 1 - 0.1 * 0.2 if variable.name == "kernel" else 1
        # pytest.approx takes long for so many.
        after = np.asarray(variable.numpy(), np.float32)
        np.testing.assert_allclose(after, share * value, rtol=1e-5, equal_nan=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["xception", "compact"])
def test_an_interrupted_run_ends_as_an_undisturbed_one(
    name: str, sample_archive: Path, catsdogs: Catsdogs, tmp_path: Path
) -> None:
    """Bit for bit. The other recipes go through tests/faults."""
    options = (
        f"--recipe={name}", f"--archive={sample_archive}", f"--run-id={RUN_ID}", "--epochs=3", "--image-size=48",
        "--train-per-class=15", "--validation-per-class=4", "--test-per-class=4", "--batch-size=4",
    )  # fmt: skip
    process = catsdogs("run", *options, "--output=undisturbed", "--volume=undisturbed-volume")
    assert (process.returncode, process.stderr) == (0, "")

    disturbed = ("run", *options, "--output=disturbed", "--volume=volume", "--log-format=json")
    with Job(*disturbed, "--checkpoint-every=0.01s", env={}, directory=tmp_path) as job:
        at_mid_epoch(job, tmp_path / "volume")
        job.process.send_signal(signal.SIGTERM)
        assert job.wait() == 75
    process = catsdogs(*disturbed)
    assert (process.returncode, process.stderr) == (0, "")
    assert '"resumed"' in process.stdout

    first, second = (tmp_path / output / RUN_ID for output in ("undisturbed", "disturbed"))
    pairs = zip(*(weights((run / "model.keras").read_bytes(), tmp_path) for run in (first, second)), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)
    assert (first / "predictions.csv").read_bytes() == (second / "predictions.csv").read_bytes()
    histories = [
        [{name: value for name, value in row.items() if name != "seconds"} for row in rows(data)]
        for data in ((run / "history.csv").read_bytes() for run in (first, second))
    ]
    assert histories[0] == histories[1]
    assert len(histories[0]) == 3
