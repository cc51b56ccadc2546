"""Publishes a finished run to the store, its manifest last.

RUN/run.json        put first, only if absent: the run whose file it is owns the run id
RUN/lease.json      while a process publishes
RUN/…               the other artifacts, each read back and compared
RUN/manifest.json   every artifact's size and SHA-256; put last, only if absent, and read back too
"""

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path

from catsdogs.config.extras import missing_formats
from catsdogs.results import documents, manifest, names
from catsdogs.results.documents import RunDocument
from catsdogs.results.manifest import Entry
from catsdogs.runtime.errors import BadData, ConfigError, NotFound, Unavailable
from catsdogs.runtime.events import AlreadyPublished, Published, Uploading
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import document, volume
from catsdogs.storage.lease import Lease, lost
from catsdogs.storage.store import Store

WORKERS = 4
ATTEMPTS = 2
"""Uploads of an artifact that reads back differently."""


def is_published(output: Store, model_settings: Mapping[str, object], formats: Iterable[str] = ()) -> bool:
    """Return whether the run's manifest is in `output`.

    Raises ConfigError if `output` holds something else, if the run there has other settings, if it is published without
    one of the formats, or if there is no such bucket.
    """
    try:
        keys = {key for key, _ in output.list()}
    except NotFound as error:
        raise ConfigError(str(error)) from error
    if names.RUN in keys:
        _check_owner(output, {"settings": model_settings})
    if others := names.unknown(keys):
        _check_listed(output, others, keys)
    if names.MANIFEST not in keys:
        return False
    if without := missing_formats(keys, formats):
        raise ConfigError(
            f"{output.uri('')}: published without {', '.join(without)}, and stays as it is; choose another --run-id, or"
            " leave --export out"
        )
    return True


def _check_listed(output: Store, others: Iterable[str], keys: Iterable[str]) -> None:
    """Check that files which this version does not write are in the run's manifest. Raises ConfigError."""
    listed: Iterable[str] = ()
    if names.MANIFEST in keys:
        with contextlib.suppress(BadData):
            listed = manifest.load(output).entries
    for name in others:
        if name not in listed:
            raise ConfigError(f"{output.uri(name)}: not a file of a run; choose another --run-id or --output")


def claim(output: Store, run: RunDocument) -> None:
    """Make `output` this run's, before hours go into it. Raises ConfigError if it is another's."""
    if output.put_if(names.RUN, documents.dump_run(run), None) is None:
        _check_owner(output, {"settings": run["settings"], "archive": run["archive"]})


def _check_owner(output: Store, ours: Mapping[str, Mapping[str, object]]) -> None:
    """Compare what decides the model with the run.json in `output`. Raises ConfigError."""
    where = output.uri(names.RUN)
    try:
        found = documents.load_run(documents.read_bounded(output, names.RUN), where)
        theirs = {part: dict(found[part]) for part in ours}
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{where}: not a run's; choose another --run-id or --output") from None
    for part, values in ours.items():
        for name, value in values.items():
            # An archive is the same wherever it is stored, and whenever it was copied there.
            if (part == "settings" or name == "directory_sha256") and theirs[part].get(name) != value:
                raise ConfigError(
                    f"{output.uri('')}: holds another run, with {name} {theirs[part].get(name)!r} instead of"
                    f" {value!r}; choose another --run-id, or leave it out"
                )


def publish(
    output: Store, artifacts: Mapping[str, Path], run_id: str, owner: str, log: Log, interruption: Interruption
) -> None:
    """Upload the artifacts (name → file) in parallel, read each back, and put the manifest last.

    Of several processes one at a time does so, as `owner`. An existing manifest stays as it is.
    Nothing else may write to `output` meanwhile: close the LogUpload first.
    Raises Unavailable if an artifact does not read back as it was sent, Interrupted also if another process
    has taken over.
    """
    lease = Lease(output, owner)
    lease.acquire(interruption, log)
    present = {key: stat.etag for key, stat in output.list()}
    if names.MANIFEST not in present:
        entries = _upload_all(output, artifacts, present, lease, log, interruption)
        content = {
            "run_id": run_id,
            "published": datetime.now(UTC).isoformat(timespec="seconds"),
            "artifacts": [entry._asdict() for entry in entries],
        }
        lease.renew(at_once=True)
        _upload(output, names.MANIFEST, document.dump(content, manifest.FORMAT), None)
        size = sum(entry.size for entry in entries)
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
) -> list[Entry]:
    """Upload all artifacts; return the manifest's entries, by name. `present` has the etags of an earlier attempt."""
    entries: list[Entry] = []
    pool = ThreadPoolExecutor(WORKERS, "upload")
    try:
        running: set[Future[Entry]] = {
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
    return sorted(entries)


def _upload(output: Store, name: str, source: Path | bytes, etag: str | None) -> Entry:
    """Upload only if the object still is `etag`'s, so that a process that was thought dead writes nothing any more."""
    if isinstance(source, Path):
        with volume.failures(source):
            entry = Entry(name, source.stat().st_size, volume.sha256(source))
    else:
        entry = Entry(name, len(source), hashlib.sha256(source).hexdigest())
    for _ in range(ATTEMPTS):
        new = output.put_if(name, source, etag)
        if manifest.digest(output, name) == entry.sha256:
            return entry
        if new is None:
            raise lost(output)
        etag = new
    raise Unavailable(f"{output.uri(name)}: reads back differently from what was sent; check the storage, try again")
