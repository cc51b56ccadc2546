"""The right to publish a run, held by one process at a time: a lease, as an object in the run's own folder.

The holder renews the lease, which changes its etag. Another process that finds a lease waits; if the etag stays the
same for longer than SECONDS, the holder is gone, and the lease is taken over. Every write is conditional on the last
known etag, so if two processes try to take over, one succeeds. Clocks are never compared: each process measures for
itself. The lease also has its holder's host and the time since when it holds it, for people.
"""

import os
import time
from datetime import UTC, datetime
from typing import NamedTuple

from catsdogs.runtime.errors import Changed, Interrupted, NotFound
from catsdogs.runtime.events import LeaseWaiting
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import document
from catsdogs.storage.store import Store

KEY = "lease.json"
FORMAT = 1
"""Leases without a format are of format 0, which has the same content."""
SECONDS = 30.0
"""Longer than any pause of a live process."""
POLL_SECONDS = 1.0
REPORT_SECONDS = 30.0
"""Between two reports that a lease is waited for."""
MAX_SIZE = 64 << 10
"""Bytes; a larger object is not a lease."""
MAX_TEXT = 253
"""Characters of a lease's text that are shown: the longest name of a host."""


class _Found(NamedTuple):
    """A lease in the store. Its texts are None if it is unreadable or does not have them."""

    etag: str | None
    owner: str | None = None
    host: str | None = None
    since: str | None = None


class Lease:
    """A lease on `output` for `owner`. A process that restarts under the same name does not wait for itself."""

    def __init__(self, output: Store, owner: str):
        self.output = output
        self.owner = owner
        self._etag: str | None = None
        self._renewals = 0
        self._renewed = 0.0
        self._since = ""

    def acquire(self, interruption: Interruption, log: Log | None = None) -> None:
        """Wait until the lease is ours, and report the wait at once and every REPORT_SECONDS.

        Raises Interrupted, and ConfigError for a lease of a newer version.
        """
        known: str | None = None
        began = since = time.monotonic()
        report_at = began
        while True:
            found = self._current()
            now = time.monotonic()
            if found.etag != known:
                known, since = found.etag, now
            free = found.etag is None or found.owner == self.owner or now - since > SECONDS
            if free:
                self._since = datetime.now(UTC).isoformat(timespec="seconds")
                if self._put(found.etag):
                    return
            if log is not None and not free and now >= report_at:
                report_at = now + REPORT_SECONDS
                log.emit(
                    LeaseWaiting(
                        host=found.host or "an unknown host",
                        since=found.since or "an unknown time",
                        lease=self.output.uri(KEY),
                        waited=now - began,
                    )
                )
            interruption.check()
            time.sleep(POLL_SECONDS)

    def renew(self, at_once: bool = False) -> None:
        """Renew the lease unless it is fresh; `at_once` in any case. Raises Interrupted if it was taken over."""
        if (at_once or time.monotonic() - self._renewed > SECONDS / 3) and not self._put(self._etag):
            raise lost(self.output)

    def release(self) -> None:
        self.output.delete(KEY)

    def _current(self) -> _Found:
        """Return the lease in the store; without an etag if there is none.

        Raises ConfigError for a lease of a newer version. Only that version knows when such a lease expires, so this
        one must not take it over, and if the holder is gone, waiting for the release would never end.
        """
        etag = None
        try:
            stat = self.output.stat(KEY)
            etag = stat.etag
            if stat.size > MAX_SIZE:
                return _Found(etag)
            data = b"".join(self.output.stream(KEY, 0, stat.size, etag))
            lease = document.load(data, FORMAT, self.output.uri(KEY))
        except NotFound:
            return _Found(None)
        except (Changed, ValueError):
            # Changed: its holder has renewed it in this moment, so the next look finds another etag.
            return _Found(etag)
        return _Found(etag, *(_text(lease.get(name)) for name in ("owner", "host", "since")))

    def _put(self, etag: str | None) -> bool:
        self._renewals += 1
        lease = {"owner": self.owner, "renewals": self._renewals, "host": os.uname().nodename, "since": self._since}
        content = document.dump(lease, FORMAT)
        self._etag = self.output.put_if(KEY, content, etag)
        self._renewed = time.monotonic()
        return self._etag is not None


def _text(value: object) -> str | None:
    return value[:MAX_TEXT] if isinstance(value, str) else None


def lost(output: Store) -> Interrupted:
    """Return the error of a process whose lease was taken over."""
    return Interrupted(f"{output.uri('')}: another process is publishing this run; leaving it to that one")
