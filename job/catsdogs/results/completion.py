"""Which artifacts on the volume are complete: artifacts.json beside them, written last, with each one's SHA-256."""

import contextlib
import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from catsdogs.results import names
from catsdogs.runtime.errors import VolumeError
from catsdogs.storage import document, schema, volume
from catsdogs.storage.store import CHUNK
from catsdogs.storage.volume import AnyPath, VolumePath

RECORD = "artifacts.json"
FORMAT = 1
"""Format 0 is the map from name to SHA-256 alone. Runs of its time may have no TensorBoard event files."""
MAX_BYTES = 5 << 30
"""Of an artifact; a bucket takes no larger object at once."""


class Artifact(NamedTuple):
    """A complete artifact on the volume. Only the bytes that it was completed with are ever given out."""

    path: AnyPath
    sha256: str

    @classmethod
    def of(cls, path: AnyPath) -> "Artifact":
        """Return the artifact as it is now. Raises VolumeError."""
        with volume.failures(path):
            return cls(path, volume.sha256(path, MAX_BYTES))

    @contextlib.contextmanager
    def opened(self) -> Iterator[io.BufferedReader]:
        """Open the file for reading. Raises VolumeError if it is not what was completed."""
        with volume.failures(self.path):
            file = volume.open_file(self.path, MAX_BYTES)
        with file:
            self.check(file)
            yield file

    def is_intact(self) -> bool:
        """Whether the file is what was completed. Raises VolumeError if it cannot be read."""
        with contextlib.suppress(volume.Missing), volume.read_failures(self.path):
            return volume.sha256(self.path, MAX_BYTES) == self.sha256
        return False

    def check_now(self) -> None:
        """Compare the file with the artifact. Raises VolumeError."""
        with self.opened():
            pass

    def check(self, file: io.BufferedReader) -> None:
        """Compare the opened file with the artifact, and rewind it. Raises VolumeError."""
        with volume.failures(self.path):
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
        if digest != self.sha256:
            raise self.changed()

    def contents(self, max_bytes: int = volume.MAX_CONTENTS) -> bytes:
        """Return the artifact's bytes. Raises VolumeError if they are more, or not what was completed."""
        data = volume.read(self.path, max_bytes)
        if data is None or hashlib.sha256(data).hexdigest() != self.sha256:
            raise self.changed()
        return data

    def changed(self) -> VolumeError:
        return VolumeError(f"{self.path}: changed since it was checked; run the same command again")


def complete(source: Path, directory: VolumePath, artifacts: Iterable[str]) -> dict[str, Artifact]:
    """Copy these artifacts from `source`, where nobody else can write, and record that they are complete.

    Return them, by name. Raises OSError, and VolumeError.
    """
    completed = {name: _copied(source / name, directory / name) for name in artifacts}
    digests = {name: artifact.sha256 for name, artifact in completed.items()}
    volume.write(directory / RECORD, document.dump({"artifacts": digests}, FORMAT))
    return completed


def _copied(source: Path, target: VolumePath) -> Artifact:
    with source.open("rb") as file:
        artifact = Artifact(target, hashlib.file_digest(file, "sha256").hexdigest())
        # Who follows a TensorBoard event file continues where it is: one that is complete already stays.
        with contextlib.suppress(VolumeError):
            artifact.check_now()
            return artifact
        file.seek(0)
        with volume.new_file(target) as copy:
            while chunk := file.read(CHUNK):
                copy.write(chunk)
    return artifact


def complete_artifacts(directory: VolumePath) -> dict[str, Artifact] | None:
    """Return the artifacts that `complete` recorded, by name; None unless all are present and unchanged.

    What is recorded must be what a training makes: all of it, and nothing else. Raises ConfigError if a newer version
    recorded them, and VolumeError if one cannot be read.
    """
    path = directory / RECORD
    try:
        with volume.read_failures(path):
            found = document.load(volume.contents(path, document.MAX_SIZE), FORMAT, str(path))
        digests = schema.convert(found["artifacts"] if document.FORMAT in found else found, dict[str, str])
    except (volume.Missing, ValueError, KeyError):
        return None
    required = set(names.TRAINED) - (set() if document.FORMAT in found else set(names.TENSORBOARD.values()))
    if not required <= digests.keys() <= {*names.TRAINED, *names.EXPORTS}:
        return None
    artifacts = {name: Artifact(directory / name, digests[name]) for name in digests}
    return artifacts if all(artifact.is_intact() for artifact in artifacts.values()) else None
