"""Checkpoints: everything that training needs to resume as if it had not been interrupted, in one file.

A checkpoint is a `.npz` file. Its members:

- `format`: the number of its format; missing in format 0.
- `versions`: JSON, the versions of the code and of Keras that wrote it; missing in format 0.
- `kinds`: JSON, what each variable is, such as "kernel" or "velocity"; missing in format 0.
- `progress`: JSON, the fields of Progress.
- `variables`: the number of variables of the model (states of random generators included) and of the optimizer, and
  `variables/0` to `variables/N`, their values.
- `best` and `best/0` to `best/N`: the best epoch's weights, in the same way.

The members' CRC-32s reveal damage.
"""

import contextlib
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import IO, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

import catsdogs
from catsdogs.config.history import History, HistoryRow
from catsdogs.runtime import memory
from catsdogs.runtime.errors import Interrupted, JobError
from catsdogs.runtime.events import CheckpointDamaged
from catsdogs.runtime.log import Log
from catsdogs.storage import schema, volume
from catsdogs.storage.document import check_format
from catsdogs.storage.schema import Count, Number, parse
from catsdogs.storage.store import Store
from catsdogs.storage.volume import Ledger, VolumePath
from catsdogs.workers.group import SINGLE, WorkerGroup

FORMAT = 1
FOLDER = "checkpoint"
"""In the run's directory."""
NAME = re.compile(r"[0-9]{6,}-[0-9]{6,}\.npz")
MAX_BYTES = 5 << 30
"""Of a checkpoint; a bucket takes no larger object at once."""
MAX_DIRECTORY = 1 << 18
"""Bytes of a checkpoint's directory of members. A member takes 80, and a model of a hundred layers has 700."""
KEPT = 2
"""The newest checkpoint and the one before it, in case the newest turns out to be damaged."""

Arrays = list[NDArray[np.generic]]


@dataclass
class Progress:
    """How far training has come. Epochs and steps count from 0 and name the next one to do."""

    epoch: int = 0
    step: int = 0
    totals: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Of the epoch so far: sum of losses, correct predictions, images."""
    seconds: float = 0.0
    """Seconds of training in the epoch so far."""
    history: History = field(default_factory=list)
    best_epoch: int | None = None
    """Index into the history."""

    @property
    def best(self) -> HistoryRow | None:
        return None if self.best_epoch is None else self.history[self.best_epoch]


def current_versions() -> dict[str, str]:
    """Return the versions that decide which variables a model and an optimizer have, and in which order."""
    return {"catsdogs-train": catsdogs.__version__, "keras": version("keras")}


@dataclass
class Checkpoint:
    progress: Progress
    variables: Arrays
    best_weights: Arrays
    kinds: list[str] = field(default_factory=list)
    """What each of the variables is, such as "kernel" or "velocity". Empty in format 0."""
    versions: Mapping[str, str] = field(default_factory=current_versions)
    """Of what wrote it. Empty in format 0."""


class Checkpoints:
    """The checkpoints of one run, in a directory of its volume; its ledger says which of the files there are its own.

    With several workers, all call its methods, and worker 0 reads and writes the files.
    """

    def __init__(self, ledger: Ledger, log: Log, mirror: "Mirror | None" = None, group: WorkerGroup = SINGLE):
        self.ledger = ledger
        self.directory = ledger.directory / FOLDER
        self.log = log
        self.mirror = mirror
        self.group = group

    def save(self, checkpoint: Checkpoint) -> VolumePath:
        """Write a new file, whole or not at all, then remove all of the run's but it and the KEPT - 1 before it.

        Return its path. Raises VolumeError.
        """
        progress = checkpoint.progress
        path = self.directory / f"{progress.epoch:06d}-{progress.step:06d}.npz"
        if self.group.worker:
            return path
        arrays = {
            "format": np.array(FORMAT),
            "versions": _json(checkpoint.versions),
            "kinds": _json(checkpoint.kinds),
            "progress": _json(asdict(progress)),
            **_numbered("variables", checkpoint.variables),
            **_numbered("best", checkpoint.best_weights),
        }
        self.ledger.add(f"{FOLDER}/{path.name}")
        with volume.new_file(path) as file:
            np.savez(file, allow_pickle=False, **arrays)
        self.ledger.remove(*(f"{FOLDER}/{old}" for old in _outdated(self.ledger.names(FOLDER), path.name)))
        if self.mirror is not None:
            self.mirror.send(path)
        return path

    def newest(self) -> tuple[VolumePath, Checkpoint] | None:
        """Return the newest checkpoint that is whole, and its path. Damaged ones are reported and passed over.

        If the volume has none, the mirror's are fetched first. Raises ConfigError for a checkpoint of a newer format,
        VolumeError, what the mirror's store raises, and Interrupted if worker 0 sends no checkpoint.
        """
        if self.group.size == 1:
            return self._newest()
        found = self._newest() if self.group.worker == 0 else None
        with volume.failures(self.directory):
            name, data = (found[0].name, volume.contents(found[0], MAX_BYTES)) if found else ("", b"")
        name, data = self.group.gather_json(name, str)[0], self.group.gather(data)[0]
        if self.group.worker == 0 or not name:
            return found
        if not NAME.fullmatch(name):
            raise Interrupted("worker 0 sent something else than a checkpoint's name; run the same command again")
        try:
            return self.directory / name, _load(io.BytesIO(data), name)
        except _DAMAGED as error:
            raise Interrupted(f"worker 0 sent a damaged checkpoint ({error}); run the same command again") from None

    def _newest(self) -> tuple[VolumePath, Checkpoint] | None:
        found = self._newest_whole()
        if found is None and self.mirror is not None:
            self.mirror.fetch(self.ledger)
            found = self._newest_whole()
        if found is not None:
            # Versions before the ledger did not record it.
            self.ledger.add(f"{FOLDER}/{found[0].name}")
        return found

    def _newest_whole(self) -> tuple[VolumePath, Checkpoint] | None:
        for path in self._newest_first():
            try:
                # Opened here, because np.load does not close a file that is not a zip. A volume that fails damages
                # no checkpoint: an older one would repeat what is done.
                with volume.failures(path, only_known=True), volume.open_file(path, MAX_BYTES) as file:
                    return path, _load(file, str(path))
            except _DAMAGED as error:
                self.log.emit(CheckpointDamaged(checkpoint=str(path), reason=str(error)))
        return None

    def _newest_first(self) -> list[VolumePath]:
        with volume.failures(self.directory):
            found = [name for name in volume.walk(self.directory) if NAME.fullmatch(name)]
        return [self.directory / name for name in sorted(found, reverse=True)]


class Mirror:
    """A copy of the newest checkpoints in a store, in case the volume is lost. Its own thread uploads them."""

    def __init__(self, store: Store):
        self.store = store
        self._pool = ThreadPoolExecutor(1, "mirror")
        self._sending: Future[None] | None = None

    def send(self, path: VolumePath) -> None:
        """Upload the file in the background. If a newer one is sent before the upload starts, only that is uploaded."""
        if self._sending is not None:
            self._sending.cancel()
        self._sending = self._pool.submit(self._send, path)

    def _send(self, path: VolumePath) -> None:
        # After a failed upload, the next checkpoint is uploaded; training continues meanwhile.
        with contextlib.suppress(JobError):
            with volume.failures(path):
                file = volume.open_file(path)
            with file:
                self.store.put(path.name, file)
            names = [name for name, _ in self.store.list() if NAME.fullmatch(name)]
            for old in _outdated(names, path.name):
                self.store.delete(old)

    def fetch(self, ledger: Ledger) -> None:
        """Copy the store's checkpoints to the run's directory. Raises VolumeError and what the store raises."""
        # The newest first: if the job is stopped in between, it has that one.
        for name, stat in sorted(self.store.list(), reverse=True):
            # Write access to the store must not give write access to other folders of the volume.
            if not NAME.fullmatch(name):
                continue
            ledger.add(f"{FOLDER}/{name}")
            with volume.new_file(ledger.directory / FOLDER / name) as file:
                for chunk in self.store.stream(name, 0, stat.size, stat.etag):
                    file.write(chunk)

    def close(self) -> None:
        """Wait for the last upload."""
        self._pool.shutdown()
        if self._sending is not None:
            # Raises what a bug in the thread has raised.
            self._sending.result()


def _outdated(names: Iterable[str], newest: str) -> list[str]:
    """Return the files to remove once `newest` is saved. Those with later names are damaged, or training would have
    resumed from them."""
    existing = sorted(names)
    kept = [name for name in existing if name <= newest][-KEPT:]
    return [name for name in existing if name not in kept]


def _json(document: Mapping[str, object] | list[str]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(document).encode(), np.uint8)


def _numbered(kind: str, arrays: Arrays) -> dict[str, NDArray[np.generic]]:
    """Return each array under its own name, and their number, because zipfile does not notice missing members."""
    return {kind: np.array(len(arrays)), **{f"{kind}/{index}": array for index, array in enumerate(arrays)}}


_DAMAGED = (
    OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What zipfile, numpy and json raise for a file with any bit flipped, or truncated anywhere."""


def _load(opened: IO[bytes], where: str) -> Checkpoint:
    """Raises ConfigError for a newer format, and any of _DAMAGED for a damaged file."""
    _check_sizes(opened)
    with np.load(opened, allow_pickle=False) as file:
        # Numpy would believe a damaged shape and leave the rest of the member unread, and its CRC-32 unchecked.
        damaged = file.zip.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is not what was written")
        arrays = {name: file[name] for name in file.files}
    form = int(arrays["format"]) if "format" in arrays else 0
    check_format(form, FORMAT, where)

    def numbered(kind: str) -> Arrays:
        return [arrays[f"{kind}/{index}"] for index in range(int(arrays[kind]))]

    return Checkpoint(
        progress=_progress(arrays["progress"].tobytes()),
        variables=numbered("variables"),
        best_weights=numbered("best"),
        kinds=parse(arrays["kinds"].tobytes(), list[str]) if form else [],
        versions=parse(arrays["versions"].tobytes(), dict[str, str]) if form else {},
    )


def _check_sizes(opened: IO[bytes]) -> None:
    """Raise any of _DAMAGED unless all arrays lie in the file, uncompressed, and fit into memory; rewind it.

    Zipfile and numpy would allocate what a directory or an array's head claims.
    """
    size = opened.seek(0, io.SEEK_END)
    # The arrays are read beside the model that they are for.
    most = min(size, MAX_BYTES, memory.limit() // 2)
    with zipfile.ZipFile(cast(IO[bytes], _Directory(opened))) as file:
        members = file.infolist()
        if len({member.filename for member in members}) < len(members):
            raise ValueError("a member is there twice")
        if sum(member.file_size for member in members) > most:
            raise ValueError(f"its members claim more than {most:,} bytes")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename} is compressed")
            with file.open(member) as array:
                _check_head(array, member)
    opened.seek(0)


def _check_head(array: IO[bytes], member: zipfile.ZipInfo) -> None:
    """Raise ValueError unless the member is an array of numbers as large as its head claims."""
    if np.lib.format.read_magic(array) != (1, 0):
        raise ValueError(f"{member.filename} is of another format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(array)
    claimed = dtype.itemsize * math.prod(shape)
    # bfloat16 is stored as bytes without a type.
    if dtype.kind not in "biufV" or dtype.hasobject or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"{member.filename} has something else than numbers")
    if claimed != member.file_size - array.tell():
        raise ValueError(f"{member.filename} claims {claimed:,} bytes, and has {member.file_size:,}")


class _Directory:
    """A file of which zipfile reads nothing but the directory, and no directory that is too large."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(MAX_DIRECTORY + 1 if size < 0 else min(size, MAX_DIRECTORY + 1))
        if len(data) > MAX_DIRECTORY:
            raise ValueError(f"a directory of more than {MAX_DIRECTORY:,} bytes")
        return data


class _ProgressDocument(TypedDict):
    epoch: Count
    step: Count
    totals: tuple[Number, Number, Number]
    seconds: Number
    history: list[HistoryRow]
    best_epoch: int | None


def _progress(data: bytes) -> Progress:
    """Raises ValueError unless it is what `save` may have written: others can write to the volume too."""
    # A model that diverged has NaN.
    found = schema.parse(data, _ProgressDocument, with_nan=True)
    progress = Progress(
        found["epoch"], found["step"], list(found["totals"]), found["seconds"], found["history"], found["best_epoch"]
    )
    if len(progress.history) != progress.epoch:
        raise ValueError("the progress contradicts itself")
    if progress.best_epoch is not None and not 0 <= progress.best_epoch < progress.epoch:
        raise ValueError("the best epoch is not in the history")
    return progress
