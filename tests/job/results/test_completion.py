"""The record of which artifacts on the volume are complete."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from catsdogs.results import completion, names
from catsdogs.results.completion import Artifact, complete, complete_artifacts
from catsdogs.runtime.errors import ConfigError, VolumeError
from catsdogs.storage import volume


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in (*names.TRAINED, *names.EXPORTS):
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "source"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def artifacts(source: Path, directory: Path) -> dict[str, Artifact]:
    return complete(source, volume.root(directory), names.TRAINED)


def completed(directory: Path) -> dict[str, Artifact] | None:
    return complete_artifacts(volume.root(directory))


def record(directory: Path, digests: object, form: int | None = 1) -> None:
    document = digests if form is None else {"format": form, "artifacts": digests}
    (directory / completion.RECORD).write_text(json.dumps(document))


def digests_of(artifacts: dict[str, Artifact]) -> dict[str, str]:
    return {name: artifact.sha256 for name, artifact in artifacts.items()}


def test_what_was_recorded_is_complete(artifacts: dict[str, Artifact], directory: Path) -> None:
    assert completed(directory) == artifacts
    assert artifacts.keys() == set(names.TRAINED)
    for name, artifact in artifacts.items():
        assert artifact.contents() == (directory / name).read_bytes() == name.encode()


def test_exports_are_artifacts_too(source: Path, directory: Path) -> None:
    artifacts = complete(source, volume.root(directory), [*names.TRAINED, *names.EXPORTS])
    assert completed(directory) == artifacts


def test_an_event_file_that_is_complete_stays_where_a_follower_has_it(source: Path, directory: Path) -> None:
    name = names.TENSORBOARD["train"]
    volume.write(directory / name, name.encode())
    before = (directory / name).stat().st_ino
    complete(source, volume.root(directory), names.TRAINED)
    assert (directory / name).stat().st_ino == before


def test_the_record_of_older_versions_is_read(artifacts: dict[str, Artifact], directory: Path) -> None:
    digests = digests_of(artifacts)
    record(directory, digests, form=None)
    assert completed(directory) == artifacts
    for name in names.TENSORBOARD.values():
        del digests[name], artifacts[name]
    record(directory, digests, form=None)
    assert completed(directory) == artifacts


def test_the_record_of_a_newer_version_is_refused_by_name(artifacts: dict[str, Artifact], directory: Path) -> None:
    (directory / completion.RECORD).write_text('{"format": 2}')
    with pytest.raises(ConfigError, match=r"artifacts\.json: written by a newer version"):
        completed(directory)


@pytest.mark.parametrize("name", ["metrics.json", names.TENSORBOARD["train"], completion.RECORD])
@pytest.mark.parametrize("data", [b"", b"\xff", None], ids=["cut", "changed", "missing"])
def test_what_changed_since_is_not_complete(
    artifacts: dict[str, Artifact], directory: Path, name: str, data: bytes | None
) -> None:
    (directory / name).unlink() if data is None else (directory / name).write_bytes(data)
    assert completed(directory) is None
    if name in artifacts:
        with pytest.raises(VolumeError, match=f"{name}: "):
            artifacts[name].contents()


@pytest.mark.parametrize("failing", ["metrics.json", names.TENSORBOARD["train"], completion.RECORD])
def test_what_cannot_be_read_is_not_taken_for_incomplete(
    failing: str, artifacts: dict[str, Artifact], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be trained again, on a volume that fails."""
    real = volume._open

    def fail(path: volume.AnyPath, flags: int, max_bytes: int | None = None, create: bool = False) -> tuple[int, int]:
        if str(path) == str(directory / failing):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, flags, max_bytes, create)

    monkeypatch.setattr(volume, "_open", fail)
    with pytest.raises(VolumeError, match=f"^{directory / failing}: Input/output error: check the volume"):
        completed(directory)


@pytest.mark.parametrize(
    "text",
    [
        "{}", "[]", "[" * 100_000, '{"format": 1}', '{"format": 1, "artifacts": 3}', '{"format": true}',
        '{"format": 1, "artifacts": {}}', '{"format": 1, "artifacts": []}', '{"artifacts": {"metrics.json": 1}}',
    ],
)  # fmt: skip
def test_a_damaged_record_completes_nothing(artifacts: dict[str, Artifact], directory: Path, text: str) -> None:
    (directory / completion.RECORD).write_text(text)
    assert completed(directory) is None


@pytest.mark.parametrize("missing", names.TRAINED)
def test_a_record_without_an_artifact_of_a_training_is_not_complete(
    missing: str, artifacts: dict[str, Artifact], directory: Path
) -> None:
    record(directory, {name: digest for name, digest in digests_of(artifacts).items() if name != missing})
    assert completed(directory) is None


@pytest.mark.parametrize(
    "name", ["../secret", "{tmp_path}/secret", "secret", "manifest.json", "a\0b", "", ".", "log.jsonl"]
)
def test_a_record_names_nothing_but_what_a_training_makes(
    name: str, artifacts: dict[str, Artifact], directory: Path, tmp_path: Path
) -> None:
    """It would be published."""
    for place in (tmp_path, directory):
        (place / "secret").write_bytes(b"secret")
    name = name.format(tmp_path=tmp_path)
    record(directory, {**digests_of(artifacts), name: hashlib.sha256(b"secret").hexdigest()})
    assert completed(directory) is None


@pytest.mark.parametrize("digest", [None, 1, [], {}, "", "0" * 64])
def test_a_digest_that_is_none_completes_nothing(
    digest: object, artifacts: dict[str, Artifact], directory: Path
) -> None:
    record(directory, {**digests_of(artifacts), "metrics.json": digest})
    assert completed(directory) is None


def test_a_link_to_the_same_bytes_is_not_the_artifact(
    artifacts: dict[str, Artifact], directory: Path, tmp_path: Path
) -> None:
    os.rename(directory / "history.png", tmp_path / "elsewhere")
    (directory / "history.png").symlink_to(tmp_path / "elsewhere")
    assert completed(directory) is None


def test_a_missing_file_cannot_be_complete(source: Path, directory: Path) -> None:
    (source / "history.png").unlink()
    with pytest.raises(FileNotFoundError):
        complete(source, volume.root(directory), names.TRAINED)
    assert not (directory / completion.RECORD).exists()
