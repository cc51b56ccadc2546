"""Resuming from a checkpoint whose model or optimizer has other variables than this version's.

The golden files' checkpoints are of smaller models under the recipes' names, as another version might have built them.
"""

import shutil
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Catsdogs

OPTIONS = (
    "--archive=dogs-vs-cats.zip", "--output=runs", "--volume=volume", "--train-per-class=12",
    "--validation-per-class=4", "--test-per-class=4", "--batch-size=5", "--epochs=4",
)  # fmt: skip


@pytest.mark.parametrize(
    ("run_id", "options", "difference"),
    [
        (
            "augmented-e82ea8d8",
            ("--recipe=augmented", "--image-size=48", "--learning-rate=0.01", "--seed=2"),
            "has shape (3, 3, 3, 8) of kernel instead of (3, 3, 3, 32)",
        ),
        (
            "compact-17847e2e",
            ("--recipe=compact", "--image-size=32", "--learning-rate=0.1"),
            "has 47 variables instead of 107",
        ),
    ],
)
def test_other_variables_are_refused_in_one_line(
    run_id: str, options: tuple[str, ...], difference: str, catsdogs: Catsdogs, tmp_path: Path
) -> None:
    golden = REPOSITORY / "tests/golden"
    shutil.copy(golden / "dogs-vs-cats.zip", tmp_path)
    shutil.copytree(golden / "volume", tmp_path / "volume")
    [checkpoint] = (tmp_path / f"volume/work/{run_id}/checkpoint").iterdir()
    process = catsdogs("run", *OPTIONS, *options)
    assert process.returncode == 78, process.stderr
    [line] = process.stderr.splitlines()
    assert f"volume/work/{run_id}/checkpoint/{checkpoint.name}: {difference}" in line
    assert line.endswith(
        f"; written with an earlier version, and this is catsdogs-train {version('catsdogs-train')}, keras"
        f" {version('keras')}; use those versions, or choose another --run-id"
    )
    assert checkpoint.exists()
