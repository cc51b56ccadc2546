"""The end of this process, and thereby of the whole group, once a worker is lost."""

import os
import threading
from collections.abc import Collection

from catsdogs.runtime.errors import Interrupted, masked, printable
from catsdogs.workers.transport import Connection, Kind

ADVICE = "the same command resumes from the last checkpoint"


class Abort:
    """Ends the process from any thread, whatever its other threads wait for: TensorFlow's collectives may wait for a
    lost worker forever. Does nothing once it is disarmed."""

    def __init__(self, worker: int, connections: Collection[Connection]):
        self._worker, self._connections = worker, connections
        self._armed = True
        self._ending = threading.Lock()
        # While TensorFlow is imported, 2 leads elsewhere.
        self._stderr = os.dup(2) if connections else 2

    def disarm(self) -> None:
        self._armed = False

    def __call__(self, reason: str) -> None:
        """Tell the other workers and the user the reason, and end the process with Interrupted's exit code."""
        if not self._armed:
            return
        # Never released: the first reason is the one that is reported.
        self._ending.acquire()
        for connection in self._connections:
            connection.send_last(Kind.ENDED, reason)
        own = f"worker {self._worker}: " if self._worker else ""
        os.write(self._stderr, f"catsdogs: {own}{printable(masked(reason))}; {ADVICE}\n".encode())
        os._exit(Interrupted.exit_code)
