"""The way from the pods to the S3 server on this machine, which can be closed for a while."""

import contextlib
import socket
import socketserver
import threading
import urllib.parse
from collections.abc import Iterator

from tests.servers import S3Server

PIECE = 1 << 16


class Relay:
    """What connects to `endpoint` is connected to the server, while this is entered and not closed."""

    def __init__(self, server: S3Server, address: str):
        there = urllib.parse.urlsplit(server.endpoint)
        assert there.hostname
        assert there.port
        self._target = (there.hostname, there.port)
        self._address = address
        self._port = 0
        self._listener: _Listener | None = None

    def __enter__(self) -> "Relay":
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def endpoint(self) -> str:
        return f"http://{self._address}:{self._port}"

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Nobody listens, and what was connected is cut off."""
        self._close()
        try:
            yield
        finally:
            self._open()

    def _open(self) -> None:
        self._listener = _Listener((self._address, self._port), self._target)
        self._port = self._listener.server_address[1]
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), name="relay", daemon=True).start()

    def _close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown()
            listener.server_close()
            listener.cut()


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], target: tuple[str, int]):
        self.target = target
        self._open: set[socket.socket] = set()
        super().__init__(address, _Connection)

    def cut(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def counted(self, connection: socket.socket) -> Iterator[None]:
        self._open.add(connection)
        try:
            yield
        finally:
            self._open.discard(connection)


class _Connection(socketserver.BaseRequestHandler):
    server: _Listener
    request: socket.socket

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as there, self.server.counted(self.request):
            back = threading.Thread(target=_copy, args=(there, self.request), daemon=True)
            back.start()
            _copy(self.request, there)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
