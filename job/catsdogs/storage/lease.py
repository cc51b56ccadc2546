"""The right to publish a run, held by one process at a time: a lease, as an object in the run's own folder.

The holder renews the lease, which changes its etag. Another process that finds a lease waits; if the etag stays the
same for longer than SECONDS, the holder is gone, and the lease is taken over. Every write is conditional on the last
known etag, so if two processes try to take over, one succeeds. Clocks are never compared: each process measures for
itself.
"""

import time

from catsdogs.runtime.errors import Interrupted, NotFound
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import document
from catsdogs.storage.store import Store, read

KEY = "lease.json"
FORMAT = 1
"""Leases without a format are of format 0, which has the same content."""
SECONDS = 30.0
"""Longer than any pause of a live process."""
POLL_SECONDS = 1.0


class Lease:
    """A lease on `output` for `owner`. A process that restarts under the same name does not wait for itself."""

    def __init__(self, output: Store, owner: str):
        self.output = output
        self.owner = owner
        self._etag: str | None = None
        self._renewals = 0
        self._renewed = 0.0

    def acquire(self, interruption: Interruption) -> None:
        """Wait until the lease is ours. Raises Interrupted, and ConfigError for a lease of a newer version."""
        known: str | None = None
        since = time.monotonic()
        while True:
            etag, owner = self._current()
            if etag != known:
                known, since = etag, time.monotonic()
            free = etag is None or owner == self.owner or time.monotonic() - since > SECONDS
            if free and self._put(etag):
                return
            interruption.check()
            time.sleep(POLL_SECONDS)

    def renew(self, at_once: bool = False) -> None:
        """Renew the lease unless it is fresh; `at_once` in any case. Raises Interrupted if it was taken over."""
        if (at_once or time.monotonic() - self._renewed > SECONDS / 3) and not self._put(self._etag):
            raise lost(self.output)

    def release(self) -> None:
        self.output.delete(KEY)

    def _current(self) -> tuple[str | None, str | None]:
        """Return etag and owner of the lease: None and None if there is none, and no owner if it is unreadable.

        Raises ConfigError for a lease of a newer version. Only that version knows when such a lease expires, so this
        one must not take it over, and if the holder is gone, waiting for the release would never end.
        """
        try:
            etag, data = self.output.stat(KEY).etag, read(self.output, KEY)
        except NotFound:
            return None, None
        try:
            return etag, document.load(data, FORMAT, self.output.uri(KEY)).get("owner")
        except ValueError:
            return etag, None

    def _put(self, etag: str | None) -> bool:
        self._renewals += 1
        content = document.dump({"owner": self.owner, "renewals": self._renewals}, FORMAT)
        self._etag = self.output.put_if(KEY, content, etag)
        self._renewed = time.monotonic()
        return self._etag is not None


def lost(output: Store) -> Interrupted:
    """Return the error of a process whose lease was taken over."""
    return Interrupted(f"{output.uri('')}: another process is publishing this run; leaving it to that one")
