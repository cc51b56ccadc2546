"""`catsdogs demo`, as a user types it in a folder where it has never run."""

import json
from pathlib import Path

import pytest

from tests.conftest import Catsdogs

SMALL = (
    "--run-id=small", "--epochs=1", "--train-per-class=12", "--validation-per-class=4", "--test-per-class=4",
    "--image-size=48", "--batch-size=4",
)  # fmt: skip


@pytest.mark.slow
def test_an_archive_in_a_new_folder(catsdogs: Catsdogs, sample_archive: Path, tmp_path: Path) -> None:
    process = catsdogs("demo", f"--archive={sample_archive}", "--directory=new/folder", *SMALL)
    assert (process.returncode, process.stderr) == (0, "")
    result = tmp_path / "new" / "folder" / "runs" / "small"
    assert json.loads((result / "metrics.json").read_bytes())["test"]["images"] == 8
    assert "report.html  new/folder/runs/small/report.html" in process.stdout
    assert "test accuracy" in process.stdout.splitlines()[-1]
    assert "drawn" not in process.stdout


@pytest.mark.slow
def test_a_drawn_sample(catsdogs: Catsdogs, tmp_path: Path) -> None:
    process = catsdogs("demo", *SMALL)
    assert (process.returncode, process.stderr) == (0, "")
    assert (tmp_path / "demo" / "runs" / "small" / "manifest.json").exists()
    assert "means nothing" in process.stdout.splitlines()[-1]


@pytest.mark.parametrize("missing", ["moto", "flask"])
def test_without_moto(missing: str, catsdogs_from_scratch: Catsdogs, tmp_path: Path) -> None:
    """As after `pip install .`; moto alone, without its server's packages, is not enough."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / f"{missing}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{missing}'\")\n")
    process = catsdogs_from_scratch("demo", *SMALL, env={"PYTHONPATH": str(tmp_path / "hidden")})
    assert process.returncode == 78
    assert process.stderr == (
        "catsdogs: the demo needs moto's S3 server; run pip install '.[demo]' in a clone of catsdogs-train\n"
    )
