"""Messages between two workers over one TCP connection: a kind, and a body of bytes, each authenticated.

On the wire, a message is its head (kind and size of the body), the head's tag, and, if it has a body, the body and the
body's tag. A tag is an HMAC-SHA256 under a key that belongs to this connection and this direction (see `handshake`),
over the number of the tag in this direction and what is tagged: what somebody else inserts, changes, repeats, reorders,
leaves out or sends back fails. The head has a tag of its own, so that nobody waits for a size that somebody else
claims. Nothing is encrypted.
"""

import contextlib
import enum
import errno
import hashlib
import hmac
import select
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from catsdogs.runtime.errors import masked, printable

_HEAD = struct.Struct(">cQ")
_SIZE = struct.Struct(">Q")
TAG_SIZE = 32
_PIECE = 1 << 20
"""Bytes of a body that must be sent within one timeout."""
_PART = 1 << 16
"""Bytes that must be received within one timeout."""
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
    """The sender fails, or, from worker 0 before the start, the receiver has been replaced: why."""
    DONE = b"f"
    """From worker 0: the run is over."""


Limits = Mapping[Kind, int]
"""The kinds of message that may come, each with the most bytes of its body."""


class Keys(NamedTuple):
    """The keys of one connection, as one of its ends uses them."""

    outgoing: bytes
    incoming: bytes


class Connection:
    """A connection whose peer counts as lost once it is silent, or receives nothing, for `timeout` seconds.

    Any thread may send; one receives.
    """

    def __init__(self, connected: socket.socket, timeout: float, keys: Keys):
        self._socket = connected
        self._sending = threading.Lock()
        self._outgoing_tags, self._incoming_tags = _Tags(keys.outgoing), _Tags(keys.incoming)
        self.set_timeout(timeout)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def set_timeout(self, timeout: float) -> None:
        self._timeout = timeout
        self._socket.settimeout(timeout)

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

    def send_last(self, kind: Kind, text: str = "") -> None:
        """Send a message before the process ends, if the peer still receives. Waits for a second at most, raises
        nothing."""
        if not self._sending.acquire(timeout=1):
            return
        try:
            self._socket.settimeout(1)
            self._send(kind, body_of(text))
        except OSError:
            pass
        finally:
            self._sending.release()

    def _send(self, kind: Kind, body: bytes) -> None:
        head = _HEAD.pack(kind.value, len(body))
        self._socket.sendall(head + self._outgoing_tags.next(head))
        if not body:
            return
        tag = self._outgoing_tags.start()
        for start in range(0, len(body), _PIECE):
            piece = body[start : start + _PIECE]
            tag.update(piece)
            self._socket.sendall(piece)
        self._socket.sendall(tag.digest())

    def receive(self, limits: Limits, deadline: float | None = None) -> tuple[Kind, bytes]:
        """Return the next message, which is of one of these kinds and sizes, and whole by the deadline, if there is one
        (in seconds of time.monotonic).

        Raises OSError: TimeoutError if the peer is silent, or not fast enough; ConnectionError if it closes the
        connection, or sends anything but such a message with its tags.
        """
        received = self._read(_HEAD.size + TAG_SIZE, deadline)
        head, tag = received[: _HEAD.size], received[_HEAD.size :]
        self._check(tag, self._incoming_tags.next(head))
        code, size = _HEAD.unpack(head)
        try:
            kind = Kind(code)
        except ValueError:
            raise ConnectionError(f"received a message of unknown kind {code!r}") from None
        if kind not in limits:
            raise ConnectionError(f"received an unexpected message, {kind.name}")
        if size > limits[kind]:
            raise ConnectionError(f"received a message of {size:,} bytes, more than {limits[kind]:,}")
        if not size:
            return kind, b""
        body = self._read(size, deadline)
        expected = self._incoming_tags.start()
        expected.update(body)
        self._check(self._read(TAG_SIZE, deadline), expected.digest())
        return kind, body

    def _check(self, tag: bytes, expected: bytes) -> None:
        if not hmac.compare_digest(tag, expected):
            raise ConnectionError("received something that no worker of this run has sent")

    def _read(self, size: int, deadline: float | None) -> bytes:
        # Grows with what comes: a size that is only claimed takes no memory.
        data = bytearray()
        while len(data) < size:
            by = time.monotonic() + self._timeout if deadline is None else deadline
            data += read_exactly(self._socket, min(size - len(data), _PART), by)
        return bytes(data)

    def is_closed(self) -> bool:
        """Whether the peer has closed the connection, as far as is known, and has sent nothing that is not read."""
        try:
            return _poller(self._socket).poll(0) != [] and not self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def close(self) -> None:
        """A thread that receives on it, on either side, gets a ConnectionError."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class _Tags:
    """The tags of one direction of a connection, in their order."""

    def __init__(self, key: bytes):
        self._key = key
        self._number = 0

    def next(self, data: bytes) -> bytes:
        """Return the next tag, of this data."""
        return hmac.digest(self._key, self._prefix() + data, "sha256")

    def start(self) -> hmac.HMAC:
        """Return the next tag, of data that follow."""
        return hmac.new(self._key, self._prefix(), hashlib.sha256)

    def _prefix(self) -> bytes:
        self._number += 1
        return _SIZE.pack(self._number)


def read_exactly(connected: socket.socket, size: int, deadline: float) -> bytes:
    """Return the next `size` bytes, at most some 64 kB, which must be there by the deadline (of time.monotonic).

    Raises OSError: TimeoutError at the deadline, however steadily they drip, ConnectionError if no more will come.
    """
    data = b""
    while len(data) < size:
        # Not the socket's own timeout, which is the one of the thread that sends.
        if not _readable(connected, deadline - time.monotonic()):
            raise TimeoutError("timed out")
        piece = connected.recv(size - len(data))
        if not piece:
            raise ConnectionError("connection closed")
        data += piece
    return data


def _readable(connected: socket.socket, seconds: float) -> bool:
    poller = _poller(connected)
    return seconds > 0 and bool(poller.poll(1000 * seconds))


def _poller(connected: socket.socket) -> select.poll:
    """Return what waits for data of the socket, or for its end. Raises ConnectionError if it is closed here."""
    poller = select.poll()
    try:
        poller.register(connected, select.POLLIN)
    except ValueError:
        raise ConnectionError("connection closed") from None
    return poller


def body_of(text: str) -> bytes:
    """Return text for people as a body: without credentials, and cut off."""
    return masked(text).encode(errors="backslashreplace")[:MAX_TEXT]


def text_of(body: bytes) -> str:
    """Return a body that is text for people, whatever it is: one printable line, without credentials, and cut off."""
    return printable(masked(body[:MAX_TEXT].decode(errors="replace")))


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


def listen(port: int, host: str = "") -> socket.socket:
    """Listen on this address of this machine, or on every one. Raises OSError."""
    if host:
        return _listen_on_first(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
    return socket.create_server(("", port), backlog=1024)


def _listen_on_first(found: Sequence[tuple[socket.AddressFamily, int, int, str, tuple[Any, ...]]]) -> socket.socket:
    """Listen on the first of these that this machine has: `localhost` may be ::1 in its list of hosts only."""
    *others, (last_family, *_, last) = found
    for family, *_, address in others:
        try:
            return socket.create_server(address, family=family, backlog=1024)
        except OSError as error:
            # Whoever connects would find the other process there.
            if error.errno == errno.EADDRINUSE:
                raise
    return socket.create_server(last, family=last_family, backlog=1024)
