"""Publishes a finished run to the store, its manifest last.

RUN/run.json        put first, only if absent: the run whose file it is owns the run id
RUN/lease.json      while a process publishes
RUN/…               the other artifacts, each read back and compared
RUN/manifest.json   every artifact's size and SHA-256; put last, only if absent, and read back too
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import Any

from catsdogs.config.extras import missing_formats
from catsdogs.results import documents, manifest, names
from catsdogs.results.completion import Artifact
from catsdogs.results.documents import RunDocument
from catsdogs.results.manifest import Entry
from catsdogs.runtime.errors import BadData, Changed, ConfigError, NotFound, Unavailable
from catsdogs.runtime.events import AlreadyPublished, Published, Uploading
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import document
from catsdogs.storage.lease import Lease, lost
from catsdogs.storage.store import Source, Store

WORKERS = 4
ATTEMPTS = 2
"""Uploads of an artifact that reads back differently."""


def is_published(output: Store, model_settings: Mapping[str, object], formats: Iterable[str] = ()) -> bool:
    """Return whether the run's manifest is in `output`.

    Raises ConfigError if `output` holds something else, if the run there has other settings, if it is published without
    one of the formats, or if there is no such bucket; BadData for a manifest that is not a run's.
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
    manifest.load(output).check_required(output)
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


def claim(output: Store, run: RunDocument | Mapping[str, Any]) -> None:
    """Make `output` this run's, before hours go into it. Raises ConfigError if it is another's."""
    if output.put_if(names.RUN, documents.dump_run(run), None) is None:
        _check_owner(output, {"settings": run["settings"], "archive": run["archive"]})


def begun_with(output: Store) -> int | None:
    """Return the threads that the run in `output` was begun with; None if it has not begun, or does not say.

    Raises ConfigError for what is not a run's, and what the store raises.
    """
    where = output.uri(names.RUN)
    try:
        return documents.load_threads(document.read_object(output, names.RUN), where)
    except NotFound:
        return None
    except ValueError as reason:
        raise ConfigError(f"{where}: not a run's; choose another --run-id or --output ({reason})") from None


def _check_owner(output: Store, ours: Mapping[str, Mapping[str, object]]) -> None:
    """Compare what decides the model with the run.json in `output`. Raises ConfigError."""
    where = output.uri(names.RUN)
    try:
        found = documents.load_owner(document.read_object(output, names.RUN), where)
        if missing := ours.keys() - found.keys():
            raise ValueError(f"{missing.pop()} is missing")
    except ValueError as reason:
        raise ConfigError(f"{where}: not a run's; choose another --run-id or --output ({reason})") from None
    for part, values in ours.items():
        for name, value in values.items():
            # An archive is the same wherever it is stored, and whenever it was copied there.
            if (part == "settings" or name == "directory_sha256") and found[part].get(name) != value:
                raise ConfigError(
                    f"{output.uri('')}: holds another run, with {name} {repr(found[part].get(name))[:200]} instead of"
                    f" {value!r}; choose another --run-id, or leave it out"
                )


def publish(
    output: Store,
    artifacts: Mapping[str, Artifact | bytes],
    run_id: str,
    owner: str,
    log: Log,
    interruption: Interruption,
) -> None:
    """Upload the artifacts in parallel, read each back, and put the manifest last, with what was completed or given.

    Of several processes one at a time does so, as `owner`, a name that no other process has, not even one on a copy
    of the volume. An existing manifest stays as it is.
    Nothing else may write to `output` meanwhile: close the LogUpload first.
    Raises VolumeError if an artifact is not what was completed, Unavailable if one does not read back as it was sent,
    Interrupted also if another process has taken over.
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
        manifest.load(output).check_required(output)
        log.emit(AlreadyPublished(run_id=run_id, uri=output.uri("")))
    lease.release()


def _upload_all(
    output: Store,
    artifacts: Mapping[str, Artifact | bytes],
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
            pool.submit(_upload, output, name, source, present.get(name)) for name, source in artifacts.items()
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


def _upload(output: Store, name: str, source: Artifact | bytes, etag: str | None) -> Entry:
    """Upload only if the object still is `etag`'s, so that a process that was thought dead writes nothing any more.

    The entry has the digest of what was completed, not of what is on the volume now: what is stored must match it.
    """
    if isinstance(source, bytes):
        entry = Entry(name, len(source), hashlib.sha256(source).hexdigest())
        return _put_and_read_back(output, entry, source, etag, lambda: None)
    with source.opened() as file:
        entry = Entry(name, os.fstat(file.fileno()).st_size, source.sha256)
        return _put_and_read_back(output, entry, file, etag, lambda: source.check(file))


def _put_and_read_back(
    output: Store, entry: Entry, source: Source, etag: str | None, check_source: Callable[[], None]
) -> Entry:
    name = entry.name
    for _ in range(ATTEMPTS):
        new = output.put_if(name, source, etag)
        try:
            if manifest.digest(output, name) == entry.sha256:
                return entry
        except Changed:
            # Only another publisher replaces what was just stored.
            raise lost(output) from None
        if new is None:
            raise lost(output)
        # Another process on the volume may have changed the file while it was sent.
        check_source()
        etag = new
    raise Unavailable(f"{output.uri(name)}: reads back differently from what was sent; check the storage, try again")
