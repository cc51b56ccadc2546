"""Further attacks of who shares the volume, which the matrix in test_volume.py has no place for."""

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path

import pytest

from catsdogs import cli
from catsdogs.runtime.signals import Interruption
from catsdogs.storage.folder import Folder
from tests.conftest import REPOSITORY, Catsdogs
from tests.published import reseal

GOLDEN = REPOSITORY / "tests/golden"
RUN_ID = "baseline-0c2cfecc"
OPTIONS = (
    "--archive=dogs-vs-cats.zip", "--output=runs", "--volume=volume", f"--run-id={RUN_ID}",
    "--recipe=baseline", "--image-size=48", "--learning-rate=0.006", "--seed=1", "--train-per-class=12",
    "--validation-per-class=4", "--test-per-class=4", "--batch-size=5",
)  # fmt: skip


def test_the_lease_of_a_run_tells_nothing_of_the_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It once held what `owner` does, even where that led to the environment. It is gone once the run is published, so
    every write is looked at."""
    shutil.copytree(GOLDEN / "volume", tmp_path / "volume")
    work = tmp_path / "volume/work" / RUN_ID
    shutil.copytree(GOLDEN / "runs" / RUN_ID, work / "artifacts", dirs_exist_ok=True)
    shutil.copy(GOLDEN / "dogs-vs-cats.zip", tmp_path)
    (work / "owner").unlink(missing_ok=True)
    (work / "owner").symlink_to("/proc/self/environ")
    # Not setenv: /proc/self/environ shows what a process began with.
    assert os.environ["PATH"].encode() in Path("/proc/self/environ").read_bytes()
    written: list[tuple[str, bytes]] = []
    put_if = Folder.put_if

    def recording(self: Folder, key: str, source: object, etag: str | None) -> str | None:
        if isinstance(source, bytes):
            written.append((key, source))
        return put_if(self, key, source, etag)  # type: ignore[arg-type]

    monkeypatch.setattr(Folder, "put_if", recording)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["catsdogs", "publish", *OPTIONS, "--epochs=24"])
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli._exit_code(Interruption()) == 0
    assert "lease.json" in dict(written)
    assert not [key for key, data in written if os.environ["PATH"].encode() in data]


def test_verify_removes_nothing_but_what_it_has_made(tmp_path: Path, catsdogs: Catsdogs) -> None:
    """It once took the folder `verify` on the volume for its own."""
    shutil.copytree(GOLDEN / "runs" / RUN_ID, tmp_path / "run")
    (tmp_path / "run/model.keras").write_bytes(b"")  # so that it ends before TensorFlow
    reseal(tmp_path / "run")
    thesis = tmp_path / "volume/verify/thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("a file of somebody else")
    process = catsdogs(
        "verify", tmp_path / "run", "--accuracy", f"--archive={GOLDEN / 'dogs-vs-cats.zip'}",
        f"--volume={tmp_path / 'volume'}",
    )  # fmt: skip
    assert process.returncode == 65, process.stderr
    assert "model.keras: no model that can be used" in process.stderr
    assert thesis.read_text() == "a file of somebody else"
    assert list(thesis.parent.iterdir()) == [thesis]
    assert {path.name for path in (tmp_path / "volume").iterdir()} == {"archive", "verify"}


FOREIGN = b"a file of somebody else"
FILES = ("history.csv", "history.png", "metrics.json", "model.keras", "predictions.csv", "report.html", "run.json")


@pytest.mark.slow
@pytest.mark.parametrize("planted", ["files", "artifacts/tensorboard", "artifacts/tensorboard/train", "checkpoint"])
def test_what_a_training_writes_goes_nowhere_else(planted: str, tmp_path: Path, catsdogs: Catsdogs) -> None:
    """A link in place of a file is replaced; one in place of a folder is named."""
    place, outside = tmp_path / "place", tmp_path / "outside"
    place.mkdir()
    outside.mkdir()
    for name in FILES:
        (outside / name).write_bytes(FOREIGN)
    shutil.copy(GOLDEN / "dogs-vs-cats.zip", place)
    options = [f"{option}={place}/{value}" if option in ("--archive", "--output", "--volume") else f"{option}={value}"
               for option, _, value in (each.partition("=") for each in (*OPTIONS, "--epochs=2"))]  # fmt: skip
    assert catsdogs("prepare", *options).returncode == 0
    work = place / "volume/work" / RUN_ID
    links = [(f"artifacts/{name}", outside / name) for name in FILES] if planted == "files" else [(planted, outside)]
    for name, target in links:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).symlink_to(target)
    process = catsdogs("train", *options, "--checkpoint-every=0.05s")
    if planted == "files":
        assert process.returncode == 0, process.stderr
    else:
        assert process.returncode == 74, process.stderr
        assert f"{work / planted}: a symbolic link: links on the volume are not followed" in process.stderr
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == dict.fromkeys(FILES, FOREIGN)
