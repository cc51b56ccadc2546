"""Messages between two workers over one TCP connection: a kind, and a body of bytes."""

import contextlib
import enum
import errno
import socket
import struct
import threading
from collections.abc import Sequence

_HEAD = struct.Struct(">cQ")
_SIZE = struct.Struct(">Q")
_PIECE = 1 << 20
"""Bytes of a body that must be sent within one timeout."""
MAX_FROM_STRANGERS = 1 << 20
"""Bytes of a body from a peer that has not yet identified itself."""
MAX_TEXT = 1000
"""Bytes of a body that is text for people."""


class Kind(enum.Enum):
    """What a message is, by its first byte."""

    HELLO = b"h"
    """To worker 0: the sender's index and options, as JSON."""
    WAITING = b"w"
    """From worker 0: the indices of the workers that are missing, as JSON."""
    REFUSED = b"r"
    """From worker 0: why the group cannot start."""
    START = b"s"
    BEAT = b"b"
    DATA = b"d"
    LEAVING = b"l"
    """The sender ends, as all have agreed to."""
    ENDED = b"e"
    """The sender fails: why."""
    DONE = b"f"
    """From worker 0: the run is over."""


class Connection:
    """A connection whose peer counts as lost once it is silent, or receives nothing, for `timeout` seconds.

    Any thread may send; one receives.
    """

    def __init__(self, connected: socket.socket, timeout: float):
        self._socket = connected
        self._sending = threading.Lock()
        connected.settimeout(timeout)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, kind: Kind, body: bytes = b"") -> None:
        """Raises OSError."""
        with self._sending:
            self._send(kind, body)

    def beat(self) -> None:
        """Send a heartbeat, unless another thread is sending: that is a sign of life too.

        Raises nothing: the receiving thread notices a lost peer.
        """
        if self._sending.acquire(blocking=False):
            try:
                self._send(Kind.BEAT, b"")
            except OSError:
                pass
            finally:
                self._sending.release()

    def send_last(self, kind: Kind, body: bytes = b"") -> None:
        """Send a message before the process ends, if the peer still receives. Waits for a second at most, raises
        nothing."""
        if not self._sending.acquire(timeout=1):
            return
        try:
            self._socket.settimeout(1)
            self._send(kind, body)
        except OSError:
            pass
        finally:
            self._sending.release()

    def _send(self, kind: Kind, body: bytes) -> None:
        self._socket.sendall(_HEAD.pack(kind.value, len(body)))
        for start in range(0, len(body), _PIECE):
            self._socket.sendall(body[start : start + _PIECE])

    def receive(self, limit: int = MAX_FROM_STRANGERS) -> tuple[Kind, bytes]:
        """Return the next message, whose body has at most `limit` bytes.

        Raises OSError: TimeoutError if the peer is silent, ConnectionError if it closes the connection, or sends what
        is not a message, or too long a one.
        """
        code, size = _HEAD.unpack(self._read(_HEAD.size))
        try:
            kind = Kind(code)
        except ValueError:
            raise ConnectionError(f"received a message of unknown kind {code!r}") from None
        if size > limit:
            raise ConnectionError(f"received a message of {size:,} bytes, more than {limit:,}")
        return kind, self._read(size)

    def _read(self, size: int) -> bytes:
        # Grows with what comes: a size that is only claimed takes no memory.
        data = bytearray()
        while len(data) < size:
            piece = self._socket.recv(min(size - len(data), _PIECE))
            if not piece:
                raise ConnectionError("connection closed")
            data += piece
        return bytes(data)

    def close(self) -> None:
        """A thread that receives on it, on either side, gets a ConnectionError."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def text_of(body: bytes) -> str:
    """Return a body that is text for people, whatever it is: cut off, and what is not UTF-8 replaced."""
    return body[:MAX_TEXT].decode(errors="replace")


def pack(parts: Sequence[bytes]) -> bytes:
    """Return several bodies as one."""
    return b"".join(_SIZE.pack(len(part)) + part for part in parts)


def unpack(body: bytes) -> list[bytes]:
    """Return the bodies that `pack` made one. Raises ValueError for anything else."""
    parts, start = [], 0
    while start < len(body):
        if len(body) - start < _SIZE.size:
            raise ValueError("cut off")
        (size,) = _SIZE.unpack_from(body, start)
        start += _SIZE.size
        if len(body) - start < size:
            raise ValueError("cut off")
        parts.append(body[start : start + size])
        start += size
    return parts


def listen(port: int) -> socket.socket:
    """Listen on every address of this machine. Raises OSError."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
    return socket.create_server(("", port), backlog=1024)
