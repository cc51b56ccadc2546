"""The record of which artifacts on the volume are complete."""

import hashlib
import json
from pathlib import Path

import pytest

from catsdogs.results import completion
from catsdogs.results.completion import complete_artifacts, mark_complete
from catsdogs.runtime.errors import ConfigError, VolumeError


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    for name in ("model.keras", "metrics.json"):
        (tmp_path / name).write_bytes(name.encode())
    return mark_complete(tmp_path, ("model.keras", "metrics.json"))


def test_what_was_recorded_is_complete(files: dict[str, Path], tmp_path: Path) -> None:
    assert complete_artifacts(tmp_path) == files == {name: tmp_path / name for name in files}


def test_the_record_of_older_versions_is_read(files: dict[str, Path], tmp_path: Path) -> None:
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    (tmp_path / completion.RECORD).write_text(json.dumps(digests))
    assert complete_artifacts(tmp_path) == files


def test_the_record_of_a_newer_version_is_refused_by_name(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / completion.RECORD).write_text('{"format": 2}')
    with pytest.raises(ConfigError, match=r"artifacts\.json: written by a newer version"):
        complete_artifacts(tmp_path)


@pytest.mark.parametrize("name", ["metrics.json", completion.RECORD])
@pytest.mark.parametrize("data", [b"", b"\xff", None], ids=["cut", "changed", "missing"])
def test_what_changed_since_is_not_complete(
    files: dict[str, Path], tmp_path: Path, name: str, data: bytes | None
) -> None:
    (tmp_path / name).unlink() if data is None else (tmp_path / name).write_bytes(data)
    assert complete_artifacts(tmp_path) is None


@pytest.mark.parametrize(
    "record",
    [
        "[]", "[" * 100_000, '{"format": 1}', '{"format": 1, "artifacts": 3}', '{"format": true}',
        '{"artifacts": {"metrics.json": 1}}',
    ],
)  # fmt: skip
def test_a_damaged_record_completes_nothing(files: dict[str, Path], tmp_path: Path, record: str) -> None:
    (tmp_path / completion.RECORD).write_text(record)
    assert complete_artifacts(tmp_path) is None


def test_a_record_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    """They would be published."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    digest = hashlib.sha256(b"secret").hexdigest()
    (tmp_path / "artifacts").mkdir()
    for name in ("../secret", str(secret)):
        (tmp_path / "artifacts" / completion.RECORD).write_text(json.dumps({"format": 1, "artifacts": {name: digest}}))
        assert complete_artifacts(tmp_path / "artifacts") is None


def test_a_missing_file_cannot_be_marked_complete(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"history\.png"):
        mark_complete(tmp_path, ("history.png",))
