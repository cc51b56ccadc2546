"""A finished run in the store, its manifest last.

RUN/run.json        put first, only if absent: whoever put it owns the run id
RUN/lease.json      while a process publishes
RUN/…               the other artifacts, each read back and compared
RUN/manifest.json   every artifact's size and SHA-256; put last, only if absent, and read back as well
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from catsdogs.config.extras import FORMATS, missing_formats
from catsdogs.results.tensorboard import FILES as TENSORBOARD
from catsdogs.runtime.errors import BadData, ConfigError, JobError, NotFound, Unavailable
from catsdogs.runtime.events import AlreadyPublished, Published, Uploading
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import volume
from catsdogs.storage.lease import KEY as LEASE
from catsdogs.storage.lease import Lease, lost
from catsdogs.storage.store import Store, read

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoint/"
SEAL = "artifacts.json"
RUN = "run.json"
MODEL = "model.keras"
METRICS = "metrics.json"
PREDICTIONS = "predictions.csv"
LOG = "log.jsonl"
MADE_BY_TRAINING = (
    MODEL, "history.png", "history.csv", METRICS, PREDICTIONS, "report.html", "split.json", RUN,
    *TENSORBOARD.values(),
)  # fmt: skip
ARTIFACTS = (*MADE_BY_TRAINING, LOG)
"""Those of every run."""
EXPORTS = tuple(FORMATS.values())
"""Those of runs that are told to."""
WORKERS = 4
ATTEMPTS = 2
"""How often an artifact is uploaded that reads back differently."""


def is_published(output: Store, model_settings: Mapping[str, Any], formats: Iterable[str] = ()) -> bool:
    """Whether the run's manifest is there.

    Raises ConfigError if `output` holds something else, if the run there is published without one of the formats,
    or if there is no such bucket.
    """
    try:
        names = {key for key, _ in output.list()}
    except NotFound as error:
        raise ConfigError(str(error)) from error
    for name in sorted(names):
        if name not in (*ARTIFACTS, *EXPORTS, MANIFEST, LEASE) and not name.startswith(CHECKPOINTS):
            raise ConfigError(f"{output.uri(name)}: no file of a run; choose another --run-id or --output")
    if RUN in names:
        _check_owner(output, {"settings": model_settings})
    if MANIFEST not in names:
        return False
    if without := missing_formats(names, formats):
        raise ConfigError(
            f"{output.uri('')}: published without {', '.join(without)}, and stays as it is; choose another --run-id, or"
            " leave --export out"
        )
    return True


def claim(output: Store, run: Mapping[str, Any]) -> None:
    """Makes `output` this run's, before hours go into it. Raises ConfigError if it is another's."""
    if output.put_if(RUN, as_json(run), None) is None:
        _check_owner(output, {"settings": run["settings"], "archive": run["archive"]})


def _check_owner(output: Store, ours: Mapping[str, Mapping[str, Any]]) -> None:
    """Compares what decides the model with what the run.json there says."""
    try:
        document = json.loads(read(output, RUN))
        theirs = {part: dict(document[part]) for part in ours}
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{output.uri(RUN)}: not a run's; choose another --run-id or --output") from None
    for part, values in ours.items():
        for name, value in values.items():
            # The archive is the same wherever it lies and whenever it was copied there.
            if (part == "settings" or name == "directory_sha256") and theirs[part].get(name) != value:
                raise ConfigError(
                    f"{output.uri('')}: holds another run, with {name} {theirs[part].get(name)!r} instead of"
                    f" {value!r}; choose another --run-id, or leave it out"
                )


def publish(
    output: Store, artifacts: Mapping[str, Path], run_id: str, owner: str, log: Log, interruption: Interruption
) -> None:
    """Uploads the artifacts (name → file) in parallel, reads each back, and puts the manifest last.

    Of several processes one at a time does so, as `owner`; where the manifest is there already, that stands.
    Nothing else may write to `output` meanwhile: close the LogUpload first.
    Raises Unavailable if an artifact does not read back as it was sent, Interrupted also if another process
    has taken over.
    """
    lease = Lease(output, owner)
    lease.acquire(interruption)
    present = {key: stat.etag for key, stat in output.list()}
    if MANIFEST not in present:
        entries = _upload_all(output, artifacts, present, lease, log, interruption)
        document = {
            "format": 1,
            "run_id": run_id,
            "published": datetime.now(UTC).isoformat(timespec="seconds"),
            "artifacts": entries,
        }
        lease.renew(at_once=True)
        _upload(output, MANIFEST, as_json(document), None)
        size = sum(entry["size"] for entry in entries)
        log.emit(Published(uri=output.uri(""), artifacts=len(entries), size=size))
    else:
        log.emit(AlreadyPublished(run_id=run_id, uri=output.uri("")))
    lease.release()


def _upload_all(
    output: Store,
    artifacts: Mapping[str, Path],
    present: Mapping[str, str],
    lease: Lease,
    log: Log,
    interruption: Interruption,
) -> list[dict[str, Any]]:
    """The manifest's entries, by name. `present` has the etags of what an earlier attempt left."""
    entries: list[dict[str, Any]] = []
    pool = ThreadPoolExecutor(WORKERS, "upload")
    try:
        running: set[Future[dict[str, Any]]] = {
            pool.submit(_upload, output, name, path, present.get(name)) for name, path in artifacts.items()
        }
        while running:
            done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            interruption.check()
            lease.renew()
            entries += [future.result() for future in done]
            if done:
                log.emit(Uploading(done=len(entries), total=len(artifacts)))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return sorted(entries, key=lambda entry: str(entry["name"]))


def _upload(output: Store, name: str, source: Path | bytes, etag: str | None) -> dict[str, Any]:
    """Puts it where the object still is `etag`'s: a process that was thought dead writes nothing any more."""
    if isinstance(source, Path):
        with volume.failures(source):
            entry = {"name": name, "size": source.stat().st_size, "sha256": volume.sha256(source)}
    else:
        entry = {"name": name, "size": len(source), "sha256": hashlib.sha256(source).hexdigest()}
    for _ in range(ATTEMPTS):
        new = output.put_if(name, source, etag)
        if _digest(output, name) == entry["sha256"]:
            return entry
        if new is None:
            raise lost(output)
        etag = new
    raise Unavailable(f"{output.uri(name)}: reads back differently from what was sent; check the storage, try again")


def _digest(store: Store, key: str) -> str:
    stat = store.stat(key)
    digest = hashlib.sha256()
    for chunk in store.stream(key, 0, stat.size, stat.etag):
        digest.update(chunk)
    return digest.hexdigest()


class Entry(NamedTuple):
    """What the manifest says of one artifact."""

    name: str
    size: int
    sha256: str


def manifest(output: Store) -> tuple[dict[str, Any], list[Entry]]:
    """A published run's manifest, and its entries. Raises NotFound without one, BadData for one that is damaged."""
    try:
        document = json.loads(read(output, MANIFEST))
        entries = [Entry(entry["name"], entry["size"], entry["sha256"]) for entry in document["artifacts"]]
        if not all(_is_sound(entry) for entry in entries):
            raise ValueError
    except NotFound as error:
        raise NotFound(f"{error}; without a manifest a run is not published") from None
    except (ValueError, KeyError, TypeError):
        raise BadData(f"{output.uri(MANIFEST)}: no manifest; publish the run anew under another --run-id") from None
    return document, entries


def _is_sound(entry: Entry) -> bool:
    """Its name leads to nothing outside the run."""
    name = PurePosixPath(entry.name)
    return (
        isinstance(entry.size, int)
        and isinstance(entry.sha256, str)
        and not name.is_absolute()
        and ".." not in name.parts
    )


def check(output: Store, entry: Entry) -> None:
    """Reads the artifact through. Raises NotFound, or BadData if it is not what the manifest says."""
    if output.stat(entry.name).size != entry.size or _digest(output, entry.name) != entry.sha256:
        raise _differs(output, entry)


def contents(output: Store, entry: Entry) -> bytes:
    """The artifact's bytes, the very ones that the manifest names. Raises NotFound, BadData."""
    data = read(output, entry.name)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise _differs(output, entry)
    return data


def _differs(output: Store, entry: Entry) -> BadData:
    return BadData(f"{output.uri(entry.name)}: not what the manifest says; publish the run anew under another --run-id")


def verify(output: Store) -> list[str]:
    """The names of a published run's artifacts, each compared with the manifest.

    Raises what `manifest` raises, and what `check` raises for the first artifact that is missing or different.
    """
    _, entries = manifest(output)
    for entry in entries:
        check(output, entry)
    return [entry.name for entry in entries]


def as_json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, default=str) + "\n").encode()


def seal(directory: Path, names: Iterable[str]) -> dict[str, Path]:
    """Marks the artifacts in `directory` as complete and returns them, name → file. Raises VolumeError."""
    files = {name: directory / name for name in names}
    with volume.failures(directory):
        digests = {name: volume.sha256(path) for name, path in files.items()}
    volume.write(directory / SEAL, as_json(digests))
    return files


def sealed(directory: Path) -> dict[str, Path] | None:
    """The artifacts that `seal` marked, if every one is there and unchanged."""
    try:
        digests = json.loads((directory / SEAL).read_bytes())
        files = {name: directory / name for name in digests}
        return files if all(volume.sha256(files[name]) == digests[name] for name in files) else None
    except (OSError, ValueError):
        return None


class LogUpload:
    """Keeps a copy of the growing log in the store, from a thread of its own, until it is closed for good."""

    def __init__(self, output: Store, log: Path, every: float = 30.0):
        """Uploads once at once, so that a store that refuses is found before the work. Raises what `put` raises."""
        self.output, self.log = output, log
        self._etag = {key: stat.etag for key, stat in output.list()}.get(LOG)
        # Looked at after the etag, as a publisher does it the other way round: it takes the lease, then replaces the
        # log that it finds. So a log that is here before the lease may be replaced, and one that came after it not.
        self._ours = not {LEASE, MANIFEST} & {key for key, _ in output.list()}
        self._upload()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._repeat, args=(every,), name="log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Uploads the log's end; from then on nothing is written. May be called again."""
        self._closing.set()
        self._thread.join()

    def _repeat(self, every: float) -> None:
        while True:
            last = self._closing.wait(every)
            # What is missing comes with the next one, or with the finished run.
            with contextlib.suppress(JobError):
                self._upload()
            if last:
                return

    def _upload(self) -> None:
        """Replaces only what it put there itself: once another process writes there, the log is that one's."""
        if self._ours:
            self._etag = self.output.put_if(LOG, snapshot(self.log), self._etag)
            self._ours = self._etag is not None


def snapshot(log: Path) -> Path:
    """A copy of a file that grows, which does not: an upload announces its size first. Raises VolumeError."""
    copy = log.with_name(f"{log.stem}.snapshot{log.suffix}")
    with volume.failures(log):
        volume.write(copy, log.read_bytes(), durable=False)
    return copy
