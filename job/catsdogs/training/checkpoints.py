"""What training needs to go on as if nothing had happened, saved together in one file.

A checkpoint is a `.npz`: every variable of the model (random generators' states among them) and of the
optimizer, the best epoch's weights, and the progress as JSON. Its members' CRC-32s tell a damaged one.
"""

import contextlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from catsdogs.config.history import History, HistoryRow
from catsdogs.runtime.errors import JobError
from catsdogs.runtime.events import CheckpointDamaged
from catsdogs.runtime.log import Log
from catsdogs.storage import volume
from catsdogs.storage.store import Store
from catsdogs.workers.group import SINGLE, WorkerGroup

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
    history: History = field(default_factory=list)
    best_epoch: int | None = None
    """Index into the history."""

    @property
    def best(self) -> HistoryRow | None:
        return None if self.best_epoch is None else self.history[self.best_epoch]


@dataclass
class Checkpoint:
    progress: Progress
    variables: Arrays
    best_weights: Arrays


class Checkpoints:
    """The checkpoints of one run, in a directory of its volume. Of several workers, all call, and worker 0 does it."""

    def __init__(self, directory: Path, log: Log, mirror: "Mirror | None" = None, group: WorkerGroup = SINGLE):
        self.directory = directory
        self.log = log
        self.mirror = mirror
        self.group = group

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes a new file, whole or not at all, then removes all but it and the KEPT - 1 before it.

        Raises VolumeError.
        """
        progress = checkpoint.progress
        path = self.directory / f"{progress.epoch:06d}-{progress.step:06d}.npz"
        if self.group.worker:
            return path
        arrays = {
            "progress": np.frombuffer(json.dumps(asdict(progress)).encode(), np.uint8),
            **_numbered("variables", checkpoint.variables),
            **_numbered("best", checkpoint.best_weights),
        }
        with volume.new_file(path) as file:
            np.savez(file, allow_pickle=False, **arrays)
        for old in _outdated([found.name for found in self._newest_first()], path.name):
            with volume.failures(path):
                (self.directory / old).unlink(missing_ok=True)
        if self.mirror is not None:
            self.mirror.send(path)
        return path

    def newest(self) -> tuple[Path, Checkpoint] | None:
        """The newest one that is whole; damaged ones are reported and passed over.

        Where the volume has none, the mirror's are fetched. Raises what its store raises, VolumeError.
        """
        if self.group.size == 1:
            return self._newest()
        found = self._newest() if self.group.worker == 0 else None
        name, data = (found[0].name, found[0].read_bytes()) if found else ("", b"")
        name, data = self.group.gathered(name)[0], self.group.gather(data)[0]
        if self.group.worker == 0 or not name:
            return found
        return self.directory / name, _load(io.BytesIO(data))

    def _newest(self) -> tuple[Path, Checkpoint] | None:
        found = self._newest_whole()
        if found is None and self.mirror is not None:
            self.mirror.fetch(self.directory)
            found = self._newest_whole()
        return found

    def _newest_whole(self) -> tuple[Path, Checkpoint] | None:
        for path in self._newest_first():
            try:
                # Opened here, as np.load leaves a file open that is no zip.
                with path.open("rb") as file:
                    return path, _load(file)
            except _DAMAGED as error:
                self.log.emit(CheckpointDamaged(checkpoint=str(path), reason=str(error)))
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self.directory.glob("*.npz"), reverse=True)


class Mirror:
    """A copy of the newest checkpoints in a store, kept by a thread of its own, for when the volume is lost."""

    def __init__(self, store: Store):
        self.store = store
        self._pool = ThreadPoolExecutor(1, "mirror")
        self._sending: Future[None] | None = None

    def send(self, path: Path) -> None:
        """Uploads the file soon, unless a newer one comes before that. Does not wait."""
        if self._sending is not None:
            self._sending.cancel()
        self._sending = self._pool.submit(self._send, path)

    def _send(self, path: Path) -> None:
        # An upload that fails is made good by the next one; training goes on meanwhile.
        with contextlib.suppress(JobError):
            self.store.put(path.name, path)
            for old in _outdated((name for name, _ in self.store.list()), path.name):
                self.store.delete(old)

    def fetch(self, directory: Path) -> None:
        """Copies what is in the store to `directory`. Raises VolumeError and what the store raises."""
        # The newest first, so that whoever is stopped in between has it.
        for name, stat in sorted(self.store.list(), reverse=True):
            # Who can write to the store must not thereby write anywhere on the volume.
            if "/" in name or not name.endswith(".npz"):
                continue
            with volume.new_file(directory / name) as file:
                for chunk in self.store.stream(name, 0, stat.size, stat.etag):
                    file.write(chunk)

    def close(self) -> None:
        """Waits for the last upload."""
        self._pool.shutdown()
        if self._sending is not None:
            # A bug in there must not stay hidden.
            self._sending.result()


def _outdated(names: Iterable[str], newest: str) -> list[str]:
    """Those to remove once `newest` is saved. Newer ones were damaged, for training did not go on from them."""
    there = sorted(names)
    kept = [name for name in there if name <= newest][-KEPT:]
    return [name for name in there if name not in kept]


def _numbered(kind: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Each by a name of its own, and how many they are: zipfile does not notice that members are missing."""
    return {kind: np.array(len(arrays)), **{f"{kind}/{index}": array for index, array in enumerate(arrays)}}


_DAMAGED = (
    OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What zipfile, numpy and json raise for a file with any one bit flipped, or cut anywhere."""


def _load(opened: IO[bytes]) -> Checkpoint:
    with np.load(opened, allow_pickle=False) as file:
        # Numpy would take a damaged shape for the truth and leave the rest of the member, and its CRC-32, unread.
        damaged = file.zip.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is not what was written")
        arrays = {name: file[name] for name in file.files}
    progress = Progress(**json.loads(arrays["progress"].tobytes()))

    def numbered(kind: str) -> Arrays:
        return [arrays[f"{kind}/{index}"] for index in range(int(arrays[kind]))]

    return Checkpoint(progress, numbered("variables"), numbered("best"))
