"""What training needs to go on as if nothing had happened, saved together in one file.

A checkpoint is a `.npz`: every variable of the model (random generators' states among them) and of the
optimizer, the best epoch's weights, and the progress as JSON. Its members' CRC-32s tell a damaged one.
"""

import contextlib
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job import volume
from job.errors import JobError
from job.events import Log
from job.stores import Store

KEPT = 2
"""The newest, and one before it, should the newest turn out damaged."""

Arrays = list[NDArray[Any]]


@dataclass
class Progress:
    """How far training has come. Epochs and steps count from 0 and name the next one to do."""

    epoch: int = 0
    step: int = 0
    totals: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Of the epoch so far: sum of losses, right answers, images."""
    seconds: float = 0.0
    """Of training in the epoch so far."""
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    """Index into the history."""

    @property
    def best(self) -> dict[str, float] | None:
        return None if self.best_epoch is None else self.history[self.best_epoch]


@dataclass
class Checkpoint:
    progress: Progress
    variables: Arrays
    best_weights: Arrays


class Checkpoints:
    """The checkpoints of one run, in a directory of its volume."""

    def __init__(self, directory: Path, log: Log, mirror: "Mirror | None" = None):
        self.directory = directory
        self.log = log
        self.mirror = mirror

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes a new file, whole or not at all, then removes all but the newest KEPT. Raises VolumeFailed."""
        progress = checkpoint.progress
        path = self.directory / f"{progress.epoch:06d}-{progress.step:06d}.npz"
        arrays = {
            "progress": np.frombuffer(json.dumps(asdict(progress)).encode(), np.uint8),
            **{f"variables/{index}": array for index, array in enumerate(checkpoint.variables)},
            **{f"best/{index}": array for index, array in enumerate(checkpoint.best_weights)},
        }
        with volume.new_file(path) as file:
            np.savez(file, allow_pickle=False, **arrays)
        for old in self._newest_first()[KEPT:]:
            with volume.failures(old):
                old.unlink(missing_ok=True)
        if self.mirror is not None:
            self.mirror.send(path)
        return path

    def newest(self) -> tuple[Path, Checkpoint] | None:
        """The newest one that is whole; damaged ones are reported and passed over.

        Where the volume has none, the mirror's are fetched first. Raises what its store raises.
        """
        if self.mirror is not None and not self._newest_first():
            self.mirror.fetch(self.directory)
        for path in self._newest_first():
            try:
                return path, _load(path)
            except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
                self.log.say("checkpoint-damaged", checkpoint=str(path), reason=str(error))
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self.directory.glob("*.npz"), reverse=True)


class Mirror:
    """A copy of the newest checkpoints in a store, kept by a thread of its own, for when the volume is lost."""

    def __init__(self, store: Store):
        self.store = store
        self._pool = ThreadPoolExecutor(1, "mirror")

    def send(self, path: Path) -> None:
        """Uploads the file soon, unless a newer one has replaced it by then. Does not wait."""
        self._pool.submit(self._send, path)

    def _send(self, path: Path) -> None:
        # An upload that fails is made good by the next one; training goes on meanwhile.
        with contextlib.suppress(JobError, FileNotFoundError):
            self.store.put(path.name, path)
            for old in sorted((name for name, _ in self.store.list()), reverse=True)[KEPT:]:
                self.store.delete(old)

    def fetch(self, directory: Path) -> None:
        """Copies what is in the store to `directory`. Raises VolumeFailed and what the store raises."""
        for name, stat in self.store.list():
            with volume.new_file(directory / name) as file:
                for chunk in self.store.stream(name, 0, stat.size, stat.etag):
                    file.write(chunk)

    def close(self) -> None:
        """Waits for the last upload."""
        self._pool.shutdown()


def _load(path: Path) -> Checkpoint:
    with np.load(path, allow_pickle=False) as file:
        # Reading a member to its end checks its CRC-32.
        arrays = {name: file[name] for name in file.files}
    progress = Progress(**json.loads(arrays.pop("progress").tobytes()))

    def numbered(kind: str) -> Arrays:
        count = sum(name.startswith(f"{kind}/") for name in arrays)
        return [arrays[f"{kind}/{index}"] for index in range(count)]

    return Checkpoint(progress, numbered("variables"), numbered("best"))
