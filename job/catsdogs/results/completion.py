"""Which artifacts on the volume are complete: artifacts.json beside them, written last, with each one's SHA-256."""

from collections.abc import Iterable
from pathlib import Path

from catsdogs.results import names
from catsdogs.results.manifest import is_within
from catsdogs.runtime.errors import VolumeError
from catsdogs.storage import document, schema, volume

RECORD = "artifacts.json"
FORMAT = 1
"""Format 0 is the map from name to SHA-256 alone."""


def mark_complete(directory: Path, artifacts: Iterable[str]) -> dict[str, Path]:
    """Record that these artifacts in `directory` are complete. Return them, name → file. Raises VolumeError."""
    files = {name: directory / name for name in artifacts}
    with volume.failures(directory):
        digests = {name: volume.sha256(path) for name, path in files.items()}
    volume.write(directory / RECORD, document.dump({"artifacts": digests}, FORMAT))
    return files


def complete_artifacts(directory: Path) -> dict[str, Path] | None:
    """Return the artifacts that `mark_complete` recorded, name → file; None unless all are present and unchanged.

    Raises ConfigError if a newer version recorded them.
    """
    path = directory / RECORD
    try:
        found = document.load(document.read_file(path) or b"", FORMAT, str(path))
        digests = schema.convert(found["artifacts"] if document.FORMAT in found else found, dict[str, str])
        if not all(is_within(name) for name in digests) or not digests.keys() >= set(names.REQUIRED):
            return None
        files = {name: directory / name for name in digests}
        return files if all(volume.sha256(files[name]) == digests[name] for name in files) else None
    except (OSError, VolumeError, ValueError, KeyError):
        return None
