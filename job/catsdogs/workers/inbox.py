"""What one peer sends, received by a thread of its own."""

import threading
from collections.abc import Callable
from queue import Empty, Full, Queue

from catsdogs.workers.transport import Connection, Kind, Limits, text_of

MAX_DATA = 2
"""Messages of data that were not taken yet. A peer sends the next one only after an answer to the one before."""


class Inbox(threading.Thread):
    """Keeps the data that a peer sends until it is taken, and reports the end of the peer or of the run at once.

    Accepts the messages that `limits` allow. `on_ended` gets the reason of a peer that fails, `on_lost` the error of a
    connection that fails.
    """

    def __init__(
        self,
        peer: int,
        connection: Connection,
        limits: Limits,
        on_ended: Callable[[str], None],
        on_lost: Callable[[int, OSError], None],
        on_done: Callable[[], None],
    ):
        super().__init__(name=f"worker {peer}", daemon=True)
        self._peer, self._connection, self._limits = peer, connection, limits
        self._on_ended, self._on_lost, self._on_done = on_ended, on_lost, on_done
        self._data: Queue[bytes] = Queue(MAX_DATA)

    def run(self) -> None:
        try:
            while True:
                match self._connection.receive(self._limits):
                    case Kind.DATA, body:
                        self._data.put_nowait(body)
                    case Kind.LEAVING, _:
                        return
                    case Kind.ENDED, body:
                        self._on_ended(text_of(body))
                    case Kind.DONE, _:
                        self._on_done()
        except OSError as error:
            self._on_lost(self._peer, error)
        except Full:
            self._on_lost(self._peer, ConnectionError("it sent more than it was asked for"))
        except MemoryError:
            self._on_lost(self._peer, ConnectionError("what it sent does not fit into memory"))

    def take(self, timeout: float) -> bytes | None:
        """Return the oldest data that was not taken yet, or None if none comes within `timeout` seconds."""
        try:
            return self._data.get(timeout=timeout)
        except Empty:
            return None
