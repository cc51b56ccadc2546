"""Messages over a connection, and what a peer sends that are none."""

import hashlib
import hmac
import socket
import struct
import threading
import tracemalloc
from collections.abc import Iterator

import pytest

from catsdogs.workers.transport import MAX_TEXT, Connection, Keys, Kind, body_of, pack, text_of, unpack

KEYS = Keys(outgoing=b"o" * 32, incoming=b"i" * 32)
ANY = dict.fromkeys(Kind, 1 << 20)


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection, and its peer's socket."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        connection = Connection(server.accept()[0], 0.5, KEYS)
        yield connection, peer
        connection.close()


def tag(key: bytes, number: int, data: bytes) -> bytes:
    return hmac.new(key, struct.pack(">Q", number) + data, hashlib.sha256).digest()


def head(kind: bytes, size: int, number: int = 1) -> bytes:
    """As a peer sends it that has the key."""
    data = struct.pack(">cQ", kind, size)
    return data + tag(KEYS.incoming, number, data)


def test_bytes_on_the_wire(pair: tuple[Connection, socket.socket]) -> None:
    """Workers of one run have one version, but these bytes stay the same anyway."""
    connection, peer = pair
    connection.send(Kind.DATA, b"abc")
    connection.beat()
    data, beat = b"d\0\0\0\0\0\0\0\3", b"b\0\0\0\0\0\0\0\0"
    expected = data + tag(KEYS.outgoing, 1, data) + b"abc" + tag(KEYS.outgoing, 2, b"abc")
    expected += beat + tag(KEYS.outgoing, 3, beat)
    assert peer.recv(1000) == expected
    assert {kind.name: kind.value for kind in Kind} == {
        "HELLO": b"h", "WAITING": b"w", "REFUSED": b"r", "START": b"s", "BEAT": b"b", "DATA": b"d", "LEAVING": b"l",
        "ENDED": b"e", "DONE": b"f",
    }  # fmt: skip


def test_large_message_arrives_whole(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    body = bytes(range(256)) * 20_000
    other = Connection(peer, 5.0, Keys(outgoing=KEYS.incoming, incoming=KEYS.outgoing))
    sender = threading.Thread(target=other.send, args=(Kind.DATA, body))
    sender.start()
    assert connection.receive({Kind.DATA: len(body)}) == (Kind.DATA, body)
    sender.join()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: another\r\n\r\n", "that no worker of this run has sent"),
        (head(b"H", 0), "unknown kind b'H'"),
        (head(b"h", 0), "an unexpected message, HELLO"),
        (head(b"d", (1 << 20) + 1), "more than 1,048,576"),
        (head(b"d", 2**64 - 1), "more than 1,048,576"),
    ],
)
def test_what_is_no_message_ends_the_connection(
    sent: bytes, reason: str, pair: tuple[Connection, socket.socket]
) -> None:
    connection, peer = pair
    peer.sendall(sent)
    with pytest.raises(ConnectionError, match=reason):
        connection.receive({Kind.DATA: 1 << 20})


def test_silent_peer_and_one_that_closes(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    peer.sendall(head(b"d", 10) + b"half")
    with pytest.raises(TimeoutError):
        connection.receive(ANY)
    peer.close()
    with pytest.raises(ConnectionError, match="connection closed"):
        connection.receive(ANY)


def test_size_that_is_only_claimed_takes_no_memory(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    peer.sendall(head(b"d", 1 << 40) + b"little")
    tracemalloc.start()
    try:
        with pytest.raises(TimeoutError):
            connection.receive({Kind.DATA: 1 << 40})
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("plain", "plain"),
        ("s3://me:secret@bucket/key?X-Amz-Signature=secret", "s3://***@bucket/key?***"),
        ("http://me:secret@" + "x" * 2 * MAX_TEXT, "http://***@" + "x" * (MAX_TEXT - len("http://***@"))),
        ("\x1b[31m\nforged line", "\\x1b[31m\\nforged line"),
        ("half a character: \ud83d", "half a character: \\ud83d"),
    ],
)
def test_text_for_people_is_masked_and_cut(sent: str, shown: str) -> None:
    assert text_of(body_of(sent)) == shown


def test_text_is_text_whatever_the_peer_sends() -> None:
    assert text_of(b"\xff\xfe" * MAX_TEXT).isprintable()
    assert text_of(b"http://me:secret@host") == "http://***@host"


def test_packed_bodies_are_unpacked_or_refused() -> None:
    parts = [b"", b"abc", bytes(1000)]
    packed = pack(parts)
    assert unpack(packed) == parts
    ends = {len(pack(parts[:count])) for count in range(len(parts) + 1)}
    for end in range(len(packed)):
        if end not in ends:
            with pytest.raises(ValueError, match="cut off"):
                unpack(packed[:end])
