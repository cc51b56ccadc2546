"""A running job's log in the store."""

import contextlib
import threading

from catsdogs.results.names import LEASE, LOG, MANIFEST
from catsdogs.runtime.errors import JobError
from catsdogs.storage import volume
from catsdogs.storage.store import Store
from catsdogs.storage.volume import AnyPath

INTERVAL = 30.0
"""Seconds between two uploads."""
SOON = 2.0
"""Seconds until the second upload: the first is of the log before this start."""


class LogUpload:
    """Keeps a copy of the growing log in the store, in a thread, until it is closed."""

    def __init__(self, output: Store, log: AnyPath, every: float = INTERVAL):
        """Upload the log for the first time, so that a store that refuses fails before the work starts.

        Raises what `put` raises.
        """
        self.output, self.log = output, log
        self._etag = {key: stat.etag for key, stat in output.list()}.get(LOG)
        # The lease is looked for after the etag, because a publisher works in the opposite order: it takes the lease,
        # then replaces the log that it finds. So a log older than the lease may be replaced, a newer one may not.
        self._ours = not {LEASE, MANIFEST} & {key for key, _ in output.list()}
        self._upload()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._repeat, args=(every,), name="log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Upload the end of the log, and nothing after it. May be called again."""
        self._closing.set()
        self._thread.join()

    def _repeat(self, every: float) -> None:
        pause = min(SOON, every)
        while True:
            last = self._closing.wait(pause)
            pause = every
            # The next upload, or the finished run, has what this one misses.
            with contextlib.suppress(JobError):
                self._upload()
            if last:
                return

    def _upload(self) -> None:
        """Replace only what this process uploaded: once another one writes the log, it is that one's."""
        if self._ours:
            self._etag = self.output.put_if(LOG, snapshot(self.log), self._etag)
            self._ours = self._etag is not None


def snapshot(log: AnyPath) -> bytes:
    """Return the growing log as it is now: an upload announces its size first. Raises VolumeError."""
    with volume.failures(log):
        return volume.contents(log)
