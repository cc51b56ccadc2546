"""A file or folder of one run that cannot be read does not hide the others."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from catsdogs.published.runs import runs
from catsdogs.runtime.errors import PermissionDenied, VolumeError
from catsdogs.storage import volume
from catsdogs.storage.folder import Folder
from catsdogs.storage.store import DEFAULTS
from tests.conftest import REPOSITORY

[GOLDEN] = (REPOSITORY / "tests" / "golden" / "runs").iterdir()
GOOD, BAD = "good", "bad"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    for name in (GOOD, BAD):
        shutil.copytree(GOLDEN, tmp_path / "out" / name)
    return tmp_path / "out"


def fail(path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the file, or the folder and what is in it, cannot be opened."""

    def check(wanted: object) -> None:
        if Path(str(wanted)) == path or path in Path(str(wanted)).parents:
            raise OSError(number, os.strerror(number), str(wanted))

    real_open, real_directory, real_status = volume._open, volume._readable_directory, volume._status

    def open_(
        wanted: volume.AnyPath, flags: int, max_bytes: int | None = None, create: bool = False
    ) -> tuple[int, int]:
        check(wanted)
        return real_open(wanted, flags, max_bytes, create)

    def directory(wanted: volume.VolumePath, create: bool = False) -> int:
        check(wanted)
        return real_directory(wanted, create)

    def status(wanted: volume.AnyPath) -> os.stat_result:
        if Path(str(wanted)) != path:
            check(wanted)
        return real_status(wanted)

    monkeypatch.setattr(volume, "_open", open_)
    monkeypatch.setattr(volume, "_readable_directory", directory)
    monkeypatch.setattr(volume, "_status", status)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("name", ["", "manifest.json", "run.json", "metrics.json"])
def test_the_other_runs_are_listed_and_the_unreadable_one_is_named(
    name: str, number: int, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = output / BAD / name
    others = [row for row in runs(str(output), DEFAULTS) if row["run_id"] != BAD]
    fail(path, number, monkeypatch)
    rows = runs(str(output), DEFAULTS)
    [bad] = [row for row in rows if row["run_id"] == BAD]
    assert [row for row in rows if row is not bad] == others
    assert (bad["state"], bad["status"]) == ("damaged", "damaged")
    assert bad["problem"].startswith(f"{path}: ")


def test_a_folder_that_is_no_run_is_no_news(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the root of a disk."""
    (output / "lost+found").mkdir()
    fail(output / "lost+found", errno.EACCES, monkeypatch)
    assert {row["state"] for row in runs(str(output), DEFAULTS)} == {"published"}


@pytest.mark.parametrize(("number", "kind"), [(errno.EACCES, PermissionDenied), (errno.EIO, VolumeError)])
def test_a_listing_for_others_is_whole_or_fails(
    number: int, kind: type[Exception], output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(output / BAD, number, monkeypatch)
    with pytest.raises(kind, match=f"^{output / BAD}: "):
        list(Folder(output).list())
    assert [key for key, _ in Folder(output).list(f"{GOOD}/run")] == [f"{GOOD}/run.json"]
