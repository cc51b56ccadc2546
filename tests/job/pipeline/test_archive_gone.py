"""The archive is needed until the volume has all images of the run, and no longer."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


def prepare(directory: Path, *more: str) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error."""
    process = subprocess.run(
        [
            sys.executable, "-m", "catsdogs", "prepare", f"--archive={directory}/archive.zip",
            f"--output={directory}/runs", f"--volume={directory}/volume", "--run-id=r", "--train-per-class=2",
            "--validation-per-class=1", "--test-per-class=1", "--batch-size=2", "--log-format=json", *more,
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    return process.returncode, process.stdout, process.stderr


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A folder with an archive, and a volume with a split that was prepared from it. The archive is gone."""
    shutil.copyfile(REPOSITORY / "tests/golden/dogs-vs-cats.zip", tmp_path / "archive.zip")
    assert prepare(tmp_path)[0] == 0
    (tmp_path / "archive.zip").unlink()
    return tmp_path


def image(directory: Path) -> Path:
    return next((directory / "volume").glob("splits/*/train/cats/*.jpg"))


def test_without_the_archive_a_prepared_run_goes_on(directory: Path) -> None:
    code, output, error = prepare(directory)
    assert (code, error) == (0, "")
    assert output.count('"event": "archive-gone"') == 1
    assert f"archive {directory}/archive.zip is gone; the volume has all images of this run" in output
    assert '"event": "split-reused"' in output


@pytest.mark.parametrize("lacks", ["an image", "a whole image", "the split file", "the split", "the record"])
def test_without_the_archive_what_is_missing_cannot_be_had(lacks: str, directory: Path) -> None:
    if lacks == "an image":
        image(directory).unlink()
    elif lacks == "a whole image":
        image(directory).write_bytes(image(directory).read_bytes()[:-1])
    elif lacks == "the split file":
        next((directory / "volume").glob("splits/*/split.json")).unlink()
    elif lacks == "the split":
        shutil.rmtree(directory / "volume" / "splits")
    else:
        (directory / "volume" / "work" / "r" / "prepared.json").unlink()
    code, output, error = prepare(directory)
    assert code == 65
    assert error == f"catsdogs: {directory}/archive.zip: no such file; check the path\n"
    assert "archive-gone" not in output


def test_another_run_does_not_take_the_split_of_this_one(directory: Path) -> None:
    code, _, error = prepare(directory, "--run-id=other")
    assert (code, error) == (65, f"catsdogs: {directory}/archive.zip: no such file; check the path\n")
