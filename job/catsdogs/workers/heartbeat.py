"""A sign of life to every peer, several times within the timeout after which they count this worker as lost."""

import threading
import time
from collections.abc import Callable, Iterable

from catsdogs.workers.transport import Connection

MAX_INTERVAL = 5.0
"""Seconds between two heartbeats."""


class Heartbeat(threading.Thread):
    """Sends heartbeats until it is stopped, and calls `after_each` after each of them."""

    def __init__(self, connections: Iterable[Connection], timeout: float, after_each: Callable[[], None]):
        super().__init__(name="heartbeat", daemon=True)
        self._connections = list(connections)
        self._interval = min(timeout / 4, MAX_INTERVAL)
        self._after_each = after_each
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            for connection in self._connections:
                connection.beat()
            time.sleep(self._interval)
            self._after_each()

    def stop(self) -> None:
        self._stopped.set()
