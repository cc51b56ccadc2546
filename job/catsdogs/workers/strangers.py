"""Whoever connects to worker 0, until it has proven that it has the run's key, and said which worker it is."""

import contextlib
import json
import math
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from queue import Empty, SimpleQueue
from typing import NamedTuple

from catsdogs.storage.schema import parse
from catsdogs.workers import handshake
from catsdogs.workers.transport import Connection, Kind

HANDSHAKE_SECONDS = 5.0
"""From the connection to the end of the hello, however its bytes come."""
MAX_STRANGERS = 128
"""At once. A further one takes the place of the one that was there first, so strangers that only stay keep no worker
out."""
LEAST_SECONDS = 0.05
"""After which one may lose its place. A worker needs a few milliseconds, and many start at once."""
MAX_HELLO = 1 << 16
_POLL_SECONDS = 0.5


class Hello(NamedTuple):
    """How a peer with the key identifies itself."""

    worker: int
    options: dict[str, object]
    connection: Connection

    @staticmethod
    def body(worker: int, options: Mapping[str, object]) -> bytes:
        return json.dumps({"worker": worker, "told": options}).encode()


class Strangers(threading.Thread):
    """Accepts connections until it is closed, each in a thread of its own for HANDSHAKE_SECONDS at most, and hands over
    those that identify themselves. The others it closes."""

    def __init__(self, server: socket.socket, key: bytes):
        super().__init__(name="strangers", daemon=True)
        self._server, self._key = server, key
        self._hellos: SimpleQueue[Hello] = SimpleQueue()
        self._others: dict[threading.Thread, tuple[float, socket.socket]] = {}
        """Thread → when it began, and its connection; the oldest first. Who removes an entry owns the connection."""
        self._lock = threading.Lock()
        self._closed = False
        self.another_key = ""
        """The address of the last one that has another key."""

    def take(self, timeout: float) -> Hello | None:
        """Return the next one that has identified itself, or None if there is none within `timeout` seconds."""
        try:
            return self._hellos.get(timeout=timeout)
        except Empty:
            return None

    def close(self) -> None:
        """Close all connections but those that were taken, and the server."""
        self._closed = True
        # Ends accept().
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self.join()
        self._server.close()
        while self._remove_oldest():
            pass
        while (hello := self.take(timeout=0)) is not None:
            hello.connection.close()

    def run(self) -> None:
        self._server.settimeout(_POLL_SECONDS)
        while not self._closed:
            try:
                connected, address = self._server.accept()
            except TimeoutError:
                continue
            except OSError:
                # The connection is gone again, or this process has too many files open for the moment.
                if not self._closed:
                    time.sleep(_POLL_SECONDS / 10)
                continue
            while len(self._others) >= MAX_STRANGERS and not self._closed:
                if not self._remove_oldest(than=time.monotonic() - LEAST_SECONDS):
                    time.sleep(LEAST_SECONDS / 10)
            self._add(connected, address[0].removeprefix("::ffff:"))

    def _add(self, connected: socket.socket, address: str) -> None:
        thread = threading.Thread(target=self._identify, args=(connected, address), name="stranger", daemon=True)
        with self._lock:
            self._others[thread] = time.monotonic(), connected
        try:
            thread.start()
        except RuntimeError:
            # The container's limit of threads.
            with self._removed(thread):
                connected.close()

    def _remove_oldest(self, than: float = math.inf) -> bool:
        """Close the oldest connection, if it is older `than` that, and wait for its thread. Return whether it was."""
        with self._lock:
            thread = next(iter(self._others), None)
            if thread is None or self._others[thread][0] > than:
                return False
            _, connected = self._others.pop(thread)
        # Ends its thread, which may be receiving.
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)
        thread.join()
        connected.close()
        return True

    def _identify(self, connected: socket.socket, address: str) -> None:
        hello = None
        with contextlib.suppress(OSError):
            hello = self._hello(connected, address)
        with self._removed(threading.current_thread()) as is_ours:
            if not is_ours:
                return
            if hello is not None:
                self._hellos.put(hello)
            else:
                with contextlib.suppress(OSError):
                    connected.shutdown(socket.SHUT_RDWR)
                connected.close()

    @contextlib.contextmanager
    def _removed(self, thread: threading.Thread) -> Iterator[bool]:
        with self._lock:
            yield self._others.pop(thread, None) is not None

    def _hello(self, connected: socket.socket, address: str) -> Hello | None:
        """Raises OSError."""
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        connected.settimeout(HANDSHAKE_SECONDS)
        try:
            keys = handshake.answer(connected, self._key, deadline)
        except handshake.AnotherKey:
            self.another_key = address
            return None
        connection = Connection(connected, HANDSHAKE_SECONDS, keys)
        _, body = connection.receive({Kind.HELLO: MAX_HELLO}, deadline)
        try:
            document = parse(body, dict[str, object])
        except ValueError:
            return None
        worker, options = document.get("worker"), document.get("told")
        if type(worker) is int and isinstance(options, dict):
            return Hello(worker, options, connection)
        return None
