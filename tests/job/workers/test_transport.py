"""Messages over a connection, and what a peer sends that are none."""

import socket
import struct
import threading
import tracemalloc
from collections.abc import Iterator

import pytest

from catsdogs.workers.transport import MAX_FROM_STRANGERS, Connection, Kind, pack, unpack


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection, and its peer's socket."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        connection = Connection(server.accept()[0], 0.5)
        yield connection, peer
        connection.close()


def head(kind: bytes, size: int) -> bytes:
    return struct.pack(">cQ", kind, size)


def test_bytes_on_the_wire(pair: tuple[Connection, socket.socket]) -> None:
    """Workers of one run have one version, but these bytes stay the same anyway."""
    connection, peer = pair
    connection.send(Kind.DATA, b"abc")
    connection.beat()
    assert peer.recv(100) == b"d\0\0\0\0\0\0\0\3abc" + b"b\0\0\0\0\0\0\0\0"
    assert {kind.name: kind.value for kind in Kind} == {
        "HELLO": b"h", "WAITING": b"w", "REFUSED": b"r", "START": b"s", "BEAT": b"b", "DATA": b"d", "LEAVING": b"l",
        "ENDED": b"e", "DONE": b"f",
    }  # fmt: skip


def test_large_message_arrives_whole(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    body = bytes(range(256)) * 20_000
    other = Connection(peer, 5.0)
    sender = threading.Thread(target=other.send, args=(Kind.DATA, body))
    sender.start()
    assert connection.receive(len(body)) == (Kind.DATA, body)
    sender.join()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "unknown kind b'H'"),
        (head(b"d", MAX_FROM_STRANGERS + 1), "more than 1,048,576"),
        (head(b"d", 2**64 - 1), "more than 1,048,576"),
    ],
)
def test_what_is_no_message_ends_the_connection(
    sent: bytes, reason: str, pair: tuple[Connection, socket.socket]
) -> None:
    connection, peer = pair
    peer.sendall(sent)
    with pytest.raises(ConnectionError, match=reason):
        connection.receive()


def test_silent_peer_and_one_that_closes(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    peer.sendall(head(b"d", 10) + b"half")
    with pytest.raises(TimeoutError):
        connection.receive()
    peer.close()
    with pytest.raises(ConnectionError, match="connection closed"):
        connection.receive()


def test_size_that_is_only_claimed_takes_no_memory(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    peer.sendall(head(b"d", 1 << 40) + b"little")
    tracemalloc.start()
    try:
        with pytest.raises(TimeoutError):
            connection.receive(1 << 40)
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()


def test_packed_bodies_are_unpacked_or_refused() -> None:
    parts = [b"", b"abc", bytes(1000)]
    packed = pack(parts)
    assert unpack(packed) == parts
    ends = {len(pack(parts[:count])) for count in range(len(parts) + 1)}
    for end in range(len(packed)):
        if end not in ends:
            with pytest.raises(ValueError, match="cut off"):
                unpack(packed[:end])
