"""What one peer sends, received by a thread of its own."""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from catsdogs.runtime import memory
from catsdogs.workers.transport import Connection, Kind, text_of


class Inbox(threading.Thread):
    """Keeps the data that a peer sends until it is taken, and reports the end of the peer or of the run at once.

    `on_ended` gets the reason of a peer that fails, `on_lost` the error of a connection that fails.
    """

    def __init__(
        self,
        peer: int,
        connection: Connection,
        on_ended: Callable[[str], None],
        on_lost: Callable[[int, OSError], None],
        on_done: Callable[[], None],
    ):
        super().__init__(name=f"worker {peer}", daemon=True)
        self._peer, self._connection = peer, connection
        self._on_ended, self._on_lost, self._on_done = on_ended, on_lost, on_done
        self._data: SimpleQueue[bytes] = SimpleQueue()

    def run(self) -> None:
        limit = memory.limit()
        try:
            while True:
                match self._connection.receive(limit):
                    case Kind.DATA, body:
                        self._data.put(body)
                    case Kind.LEAVING, _:
                        return
                    case Kind.ENDED, body:
                        self._on_ended(text_of(body))
                    case Kind.DONE, _:
                        self._on_done()
        except OSError as error:
            self._on_lost(self._peer, error)

    def take(self, timeout: float) -> bytes | None:
        """Return the oldest data that was not taken yet, or None if none comes within `timeout` seconds."""
        try:
            return self._data.get(timeout=timeout)
        except Empty:
            return None
