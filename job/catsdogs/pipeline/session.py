"""One start of a run: its folder on the volume locked, its log kept, its workers connected."""

import contextlib
import enum
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from catsdogs import __version__
from catsdogs.config.settings import Settings
from catsdogs.pipeline import records
from catsdogs.results import names, publish
from catsdogs.results.log_upload import LogUpload
from catsdogs.runtime.events import CredentialsRenewed, Started, StorageWaiting
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import broker, volume
from catsdogs.storage.address import open_store
from catsdogs.storage.store import StorageOptions, Store
from catsdogs.storage.volume import Ledger
from catsdogs.workers import key
from catsdogs.workers.group import SINGLE, WorkerGroup
from catsdogs.workers.rendezvous import Peers, join


class Skipped(enum.Enum):
    """Why a start has nothing to do."""

    PUBLISHED = "the run is published already"
    NOT_NEEDED = "worker 0 does it alone, and this is another one"


@dataclass(frozen=True)
class Session:
    """What one start of a run has open."""

    settings: Settings
    storage_options: StorageOptions
    output: Store
    log_upload: LogUpload | None
    """The upload of worker 0's log; None in other workers."""
    ledger: Ledger
    """What the run has made in its folder on the volume."""
    log: Log
    interruption: Interruption
    group: WorkerGroup


@contextlib.contextmanager
def open_session(
    settings: Settings, log: Log, interruption: Interruption, *, alone: bool = False
) -> Iterator[Session | Skipped]:
    """Hold the run's folder on the volume for this process, keep its log there, and join the other workers, unless
    worker 0 works `alone`. All workers end together.

    A published run costs one look at the store. Raises ConfigError if its settings are not those that bind the run, on
    the volume (see `records`) or in the store, Interrupted if another process works on it, and what `join` raises.
    """
    storage_options = _storage_options(settings, log)
    output = open_store(settings.result, storage_options)

    def published() -> bool:
        return publish.is_published(output, settings.model_settings(), settings.export)

    if published():
        yield Skipped.PUBLISHED
    elif alone and settings.worker_index:
        yield Skipped.NOT_NEEDED
    else:
        with (
            _held_folder(settings, output, log) as (ledger, log_upload),
            _joined(settings, log, interruption, published, alone) as group,
        ):
            if group is None:
                yield Skipped.PUBLISHED
            else:
                yield Session(settings, storage_options, output, log_upload, ledger, log, interruption, group)


@contextlib.contextmanager
def _held_folder(settings: Settings, output: Store, log: Log) -> Iterator[tuple[Ledger, LogUpload | None]]:
    """Hold the run's folder, and record the log there. Yield the folder's ledger, and worker 0's upload of the log."""
    path = settings.run_directory / names.LOG
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(volume.lock(settings.run_directory))
        records.check_settings(settings.run_directory, settings.model_settings())
        # The log needs room too: any line may be the one that finds the volume full.
        stack.enter_context(volume.failures(path, only_known=True))
        with volume.failures(path):
            file = stack.enter_context(io.TextIOWrapper(volume.append(path), encoding="utf-8"))
        upload = None
        if settings.worker_index == 0:
            upload = stack.enter_context(contextlib.closing(LogUpload(output, path)))
        stack.enter_context(log.recorded_in(file))
        log.emit(
            Started(
                version=__version__,
                run_id=settings.run_id,
                recipe=settings.recipe_name,
                epochs=settings.epochs,
                seed=settings.seed,
            )
        )
        yield ledger, upload


@contextlib.contextmanager
def _joined(
    settings: Settings, log: Log, interruption: Interruption, published: Callable[[], bool], alone: bool
) -> Iterator[WorkerGroup | None]:
    """Join the other workers, and end with them. Yield None if the run is `published` before they are there."""
    group = SINGLE if alone else join(peers_of(settings), log, interruption, published)
    if group is None:
        yield None
        return
    with group:
        yield group
        group.finish()


def _key(settings: Settings) -> bytes:
    """Return the workers' key, from its file or from the storage process, if that alone can read it."""
    if settings.worker_key_file is None or settings.workers == 1:
        return key.NO_KEY
    connected = broker.connection()
    if connected is None:
        return key.read(settings.worker_key_file)
    return bytes.fromhex(connected.call(broker.WORKER_KEY, "read"))


def peers_of(settings: Settings) -> Peers:
    """Return the workers of a run with these settings. Raises ConfigError if their key cannot be read."""
    return Peers(
        worker=settings.worker_index,
        addresses=settings.addresses,
        timeout=settings.worker_timeout,
        heartbeat_timeout=settings.heartbeat_timeout,
        options={"version": __version__, "run_id": settings.run_id, **settings.model_settings()},
        key=_key(settings),
    )


def _storage_options(settings: Settings, log: Log) -> StorageOptions:
    """Return how the run reaches its storage. Waiting for storage and other credentials are reported."""

    def waiting(reason: str, left: float) -> None:
        log.emit(StorageWaiting(reason=reason, left=left))

    def renewed(uri: str) -> None:
        log.emit(CredentialsRenewed(uri=uri))

    return StorageOptions(settings.addressing_style, settings.storage_timeout, waiting, renewed)
