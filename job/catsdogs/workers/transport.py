"""Messages between two workers over one TCP connection: a kind, and a body of bytes."""

import contextlib
import errno
import socket
import struct
import threading
from collections.abc import Sequence

_HEAD = struct.Struct(">cQ")
_PIECE = 1 << 20
"""Bytes of a body that must get away within one timeout."""
MAX_FROM_STRANGERS = 1 << 20
"""Bytes of a body from somebody who has not yet said who it is."""


class Link:
    """A connection whose other side is taken for lost once it is silent, or takes nothing, for `timeout` seconds.

    Any thread may send; one receives.
    """

    def __init__(self, connection: socket.socket, timeout: float):
        self._connection = connection
        self._sending = threading.Lock()
        connection.settimeout(timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, kind: bytes, body: bytes = b"") -> None:
        """Raises OSError."""
        with self._sending:
            self._send(kind, body)

    def beat(self, kind: bytes) -> None:
        """A sign of life, unless something is just being sent, which is one. Raises nothing: who receives notices."""
        if self._sending.acquire(blocking=False):
            try:
                self._send(kind, b"")
            except OSError:
                pass
            finally:
                self._sending.release()

    def send_last(self, kind: bytes, body: bytes) -> None:
        """Before the process ends, if the other side still takes it: waits a second at most, raises nothing."""
        if not self._sending.acquire(timeout=1):
            return
        try:
            self._connection.settimeout(1)
            self._send(kind, body)
        except OSError:
            pass
        finally:
            self._sending.release()

    def _send(self, kind: bytes, body: bytes) -> None:
        self._connection.sendall(_HEAD.pack(kind, len(body)))
        for start in range(0, len(body), _PIECE):
            self._connection.sendall(body[start : start + _PIECE])

    def receive(self, most: int | None = None) -> tuple[bytes, bytes]:
        """The next message, with a body of `most` bytes. Raises OSError: ConnectionError when the other side closed
        or says too much, TimeoutError when it is silent."""
        kind, size = _HEAD.unpack(self._read(_HEAD.size))
        if most is not None and size > most:
            raise ConnectionError(f"a message of {size:,} bytes")
        return kind, self._read(size)

    def _read(self, size: int) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        done = 0
        while done < size:
            count = self._connection.recv_into(view[done:], min(size - done, _PIECE))
            if not count:
                raise ConnectionError("connection closed")
            done += count
        return bytes(data)

    def close(self) -> None:
        """Whoever receives on it, here or there, gets a ConnectionError."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def packed(parts: Sequence[bytes]) -> bytes:
    """Several bodies as one."""
    return b"".join(struct.pack(">Q", len(part)) + part for part in parts)


def unpacked(body: bytes) -> list[bytes]:
    parts, place = [], 0
    while place < len(body):
        (size,) = struct.unpack_from(">Q", body, place)
        parts.append(body[place + 8 : place + 8 + size])
        place += 8 + size
    return parts


def listen(port: int) -> socket.socket:
    """On every address of this machine. Raises OSError."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
    return socket.create_server(("", port), backlog=1024)
