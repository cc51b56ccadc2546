"""Strangers at the rendezvous: whatever they send, the workers find each other, or say in one line what is wrong."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from catsdogs.runtime.errors import ConfigError, Unavailable
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.workers import handshake
from catsdogs.workers.address import control_address
from catsdogs.workers.group import WorkerGroup
from catsdogs.workers.handshake import MAGIC
from catsdogs.workers.rendezvous import Peers, join
from catsdogs.workers.strangers import MAX_HELLO, Hello
from catsdogs.workers.transport import Connection, Kind
from tests.recorder import Recorder
from tests.workers import KEY, addresses


def peers(worker: int, listed: str, timeout: float = 20.0, **options: object) -> Peers:
    return Peers(worker, listed.split(","), timeout, 5.0, options, KEY)


HELLO = b'{"worker": 1, "told": {"workers": 2, "seed": 3}}'
STRANGERS = {
    "nothing": b"",
    "another protocol": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "cut off": MAGIC + b"x",
    "no proof": MAGIC + bytes(32),
    "another proof": MAGIC + bytes(64),
    "a message without proof": b"h" + struct.pack(">Q", len(HELLO)) + HELLO,
}
PEERS = {
    "another kind": (Kind.DATA, b"{}"),
    "too long": (Kind.HELLO, b" " * (MAX_HELLO + 1)),
    "no JSON": (Kind.HELLO, b"\xff\xfe"),
    "nested": (Kind.HELLO, b"[" * 60_000),
    "a list": (Kind.HELLO, b"[]"),
    "no worker": (Kind.HELLO, b'{"told": {}}'),
    "no options": (Kind.HELLO, b'{"worker": 1}'),
    "options that are none": (Kind.HELLO, b'{"worker": 1, "told": [["workers", 2]]}'),
    "an index that is none": (Kind.HELLO, b'{"worker": "one", "told": {}}'),
    "infinity": (Kind.HELLO, b'{"worker": Infinity, "told": {}}'),
    "a huge number": (Kind.HELLO, b'{"worker": ' + b"9" * 5_000 + b', "told": {}}'),
    "half a character": (Kind.HELLO, b'{"worker": 1, "told": {"\\ud83d": 1}}'),
    "an index out of range": (Kind.HELLO, b'{"worker": 7, "told": {"workers": 2, "seed": 3}}'),
    "worker 0 itself": (Kind.HELLO, b'{"worker": 0, "told": {"workers": 2, "seed": 3}}'),
}


@pytest.mark.parametrize("sent", STRANGERS.values(), ids=STRANGERS)
def test_stranger_at_worker_0_changes_nothing(sent: bytes) -> None:
    # It may be turned away before it has sent everything.
    with both_start() as listed, _connected(listed) as stranger, contextlib.suppress(OSError):
        stranger.sendall(sent)
        stranger.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("sent", PEERS.values(), ids=PEERS)
def test_peer_with_the_key_that_is_no_worker_changes_nothing(sent: tuple[Kind, bytes]) -> None:
    with both_start() as listed, _connected(listed) as stranger:
        keys = handshake.call(stranger, KEY, time.monotonic() + 10)
        with contextlib.suppress(OSError):
            Connection(stranger, 5.0, keys).send(*sent)


@contextlib.contextmanager
def both_start() -> Iterator[str]:
    """Worker 0 starts, and worker 1 after the block. Both must find each other."""
    listed = addresses(2)
    with ThreadPoolExecutor(2) as pool:

        def start(worker: int) -> Future[WorkerGroup | None]:
            return pool.submit(join, peers(worker, listed, seed=3), Log([]), Interruption(), lambda: False)

        host = start(0)
        yield listed
        groups = [joined.result() for joined in (start(1), host)]
    for group in groups:
        assert group is not None
        group.detach()
    for group in groups:
        assert group is not None
        group.__exit__(None, None, None)


@contextlib.contextmanager
def _connected(listed: str) -> Iterator[socket.socket]:
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError):
            connected = socket.create_connection(control_address(listed.split(",")[0]), timeout=5)
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with connected:
        yield connected


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"s" + bytes(8),
        MAGIC + bytes(10),
        (Kind.WAITING, b"no JSON"),
        (Kind.WAITING, b'{"a": 1}'),
        (Kind.WAITING, b'["1"]'),
        (Kind.WAITING, b"[1, 99]"),
        (Kind.WAITING, b"[-1]"),
        (Kind.WAITING, b"[" * 60_000),
        (Kind.WAITING, b" " * 1_000_000),
        (Kind.DATA, b"1"),
        (Kind.DONE, b""),
    ],
)
def test_worker_that_connects_to_something_else(answer: bytes | tuple[Kind, bytes]) -> None:
    """It goes on trying until its time is over, as with a worker 0 that is not there."""
    listed = addresses(2)
    recorder = Recorder()
    with (
        _answering(listed, answer),
        pytest.raises(Unavailable, match=r"worker 0 \(127.0.0.1:\d+\): not there within 1.5 s") as caught,
    ):
        join(peers(1, listed, timeout=1.5), Log([recorder]), Interruption(), lambda: False)
    assert "\n" not in str(caught.value)
    assert [data["whom"] for data in recorder.of("assembling")] == [f"worker 0 ({listed.split(',')[0]})"]


@contextlib.contextmanager
def _answering(listed: str, answer: bytes | tuple[Kind, bytes]) -> Iterator[None]:
    """In worker 0's place, something that answers whoever connects: with bytes, or with the key and a message."""

    def answer_all(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = server.accept()
                with connected, contextlib.suppress(OSError):
                    if isinstance(answer, bytes):
                        connected.sendall(answer)
                    else:
                        keys = handshake.answer(connected, KEY, time.monotonic() + 10)
                        Connection(connected, 5.0, keys).send(*answer)
                    connected.recv(1 << 16)

    with socket.create_server(control_address(listed.split(",")[0])) as server:
        thread = threading.Thread(target=answer_all, args=(server,))
        thread.start()
        yield
        # accept() ends only with this.
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_refusal_is_shown_as_one_short_line() -> None:
    listed = addresses(2)
    refusal = b"\xff\n\x1b[31m http://me:secret@host " + b"x" * 900
    with _answering(listed, (Kind.REFUSED, refusal)), pytest.raises(ConfigError) as caught:
        join(peers(1, listed), Log([]), Interruption(), lambda: False)
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 2_000


def test_options_of_a_peer_are_shown_short_and_without_passwords() -> None:
    listed = addresses(2)
    with ThreadPoolExecutor(1) as pool:
        host = pool.submit(join, peers(0, listed, seed=3), Log([]), Interruption(), lambda: False)
        with _connected(listed) as stranger:
            connection = Connection(stranger, 5.0, handshake.call(stranger, KEY, time.monotonic() + 10))
            seed = "http://me:" + "secret" * 50 + "@host" + "x" * 50_000
            connection.send(Kind.HELLO, Hello.body(1, {"workers": 2, "seed": seed}))
            with pytest.raises(ConfigError, match=r"worker 1 has seed 'http://\*\*\*@hostxxx") as caught:
                host.result()
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_host_that_is_no_name(tmp_path: Path) -> None:
    """Python's encoding of host names has an error of its own."""
    with pytest.raises(ConfigError, match=r"--worker-address a{64}: not a host name"):
        join(peers(1, f"{'a' * 64}:2222,b:2222"), Log([]), Interruption(), lambda: False)
