"""The right to publish a run, held by one process at a time, as an object in the run's own folder.

Its holder renews it, which changes its etag. Who finds one waits; if its etag stays the same for longer
than SECONDS, its holder is gone, and it is taken over. Every write is conditional on the etag last
seen, so that of two who take it over one succeeds. Clocks are never compared: each measures for itself.
"""

import contextlib
import json
import time

from catsdogs.runtime.errors import Interrupted, NotFound
from catsdogs.runtime.signals import Interruption
from catsdogs.storage.store import Store, read

KEY = "lease.json"
SECONDS = 30.0
"""Longer than any pause of a process that lives."""
POLL_SECONDS = 1.0


class Lease:
    """A lease on `output` for `owner`: a process that starts again under the same name need not wait for itself."""

    def __init__(self, output: Store, owner: str):
        self.output = output
        self.owner = owner
        self._etag: str | None = None
        self._renewals = 0
        self._renewed = 0.0

    def acquire(self, interruption: Interruption) -> None:
        """Waits until it is ours. Raises Interrupted."""
        seen: str | None = None
        since = time.monotonic()
        while True:
            etag, owner = self._current()
            if etag != seen:
                seen, since = etag, time.monotonic()
            free = etag is None or owner == self.owner or time.monotonic() - since > SECONDS
            if free and self._put(etag):
                return
            interruption.check()
            time.sleep(POLL_SECONDS)

    def renew(self, at_once: bool = False) -> None:
        """Does nothing while the lease is fresh, unless `at_once`. Raises Interrupted if it was taken over."""
        if (at_once or time.monotonic() - self._renewed > SECONDS / 3) and not self._put(self._etag):
            raise lost(self.output)

    def release(self) -> None:
        self.output.delete(KEY)

    def _current(self) -> tuple[str | None, str | None]:
        """Etag and owner of the lease that is there, if there is one."""
        with contextlib.suppress(NotFound, ValueError):
            return self.output.stat(KEY).etag, json.loads(read(self.output, KEY))["owner"]
        return None, None

    def _put(self, etag: str | None) -> bool:
        self._renewals += 1
        document = json.dumps({"owner": self.owner, "renewals": self._renewals}).encode()
        self._etag = self.output.put_if(KEY, document, etag)
        self._renewed = time.monotonic()
        return self._etag is not None


def lost(output: Store) -> Interrupted:
    return Interrupted(f"{output.uri('')}: another process is publishing this run, and it is left to that one")
