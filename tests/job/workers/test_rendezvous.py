"""Strangers at the rendezvous: whatever they send, the workers find each other, or say in one line what is wrong."""

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from catsdogs.runtime.errors import ConfigError, Unavailable
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.workers.group import WorkerGroup
from catsdogs.workers.rendezvous import Peers, control_address, join
from tests.recorder import Recorder
from tests.workers import addresses


def peers(worker: int, listed: str, timeout: float = 20.0, **options: object) -> Peers:
    return Peers(worker, listed.split(","), timeout, 5.0, options)


def message(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">cQ", kind, len(body)) + body


def hello(**document: object) -> bytes:
    return message(b"h", json.dumps(document).encode())


STRANGERS = {
    "nothing": b"",
    "another protocol": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "too long": struct.pack(">cQ", b"h", 1 << 50),
    "cut off": hello(worker=1, told={})[:-1],
    "another kind": message(b"d", b"{}"),
    "no JSON": message(b"h", b"\xff\xfe"),
    "nested": message(b"h", b"[" * 500_000),
    "a list": message(b"h", b"[]"),
    "no worker": hello(told={}),
    "no options": hello(worker=1),
    "options that are none": hello(worker=1, told=[["workers", 2]]),
    "an index that is none": hello(worker="one", told={}),
    "infinity": message(b"h", b'{"worker": Infinity, "told": {}}'),
    "a huge number": message(b"h", b'{"worker": ' + b"9" * 5_000 + b', "told": {}}'),
    "an index out of range": hello(worker=7, told={"workers": 2, "seed": 3}),
    "worker 0 itself": hello(worker=0, told={"workers": 2, "seed": 3}),
}


@pytest.mark.parametrize("sent", STRANGERS.values(), ids=STRANGERS)
def test_stranger_at_worker_0_changes_nothing(sent: bytes) -> None:
    listed = addresses(2)
    found: dict[int, object] = {}

    def start(worker: int) -> None:
        try:
            found[worker] = join(peers(worker, listed, seed=3), Log([]), Interruption(), lambda: False)
        except Exception as error:
            found[worker] = error

    host = threading.Thread(target=start, args=(0,))
    host.start()
    with _connected(listed) as stranger:
        # It may be turned away before it has sent everything.
        with contextlib.suppress(OSError):
            stranger.sendall(sent)
            stranger.shutdown(socket.SHUT_WR)
        caller = threading.Thread(target=start, args=(1,))
        caller.start()
        for thread in (host, caller):
            thread.join(30)
    groups = [found[worker] for worker in (0, 1)]
    assert all(isinstance(group, WorkerGroup) for group in groups), found
    for group in groups:
        assert isinstance(group, WorkerGroup)
        group.detach()
    for group in groups:
        assert isinstance(group, WorkerGroup)
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
        message(b"w", b"no JSON"),
        message(b"w", b'{"a": 1}'),
        message(b"w", b'["1"]'),
        message(b"w", b"[1, 99]"),
        message(b"w", b"[-1]"),
        message(b"w", b"[" * 500_000),
        struct.pack(">cQ", b"w", 1 << 60),
    ],
)
def test_worker_that_connects_to_something_else(answer: bytes) -> None:
    """It goes on trying until its time is over, as with a worker 0 that is not there."""
    listed = addresses(2)
    recorder = Recorder()
    with socket.create_server(control_address(listed.split(",")[0])) as server:
        threading.Thread(target=_answer_all, args=(server, answer), daemon=True).start()
        with pytest.raises(Unavailable, match=r"worker 0 \(127.0.0.1:\d+\): not there within 1.5 s") as caught:
            join(peers(1, listed, timeout=1.5), Log([recorder]), Interruption(), lambda: False)
        # accept() ends only with this.
        server.shutdown(socket.SHUT_RDWR)
    assert "\n" not in str(caught.value)
    assert [data["whom"] for data in recorder.of("assembling")] == [f"worker 0 ({listed.split(',')[0]})"]


def _answer_all(server: socket.socket, answer: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            connected, _ = server.accept()
            with connected, contextlib.suppress(OSError):
                connected.sendall(answer)
                connected.recv(1 << 16)


def test_refusal_is_shown_as_one_short_line() -> None:
    listed = addresses(2)
    refusal = message(b"r", b"\xff\n\x1b[31m" + b"x" * 100_000)
    with socket.create_server(control_address(listed.split(",")[0])) as server:
        threading.Thread(target=_answer_all, args=(server, refusal), daemon=True).start()
        with pytest.raises(ConfigError) as caught:
            join(peers(1, listed), Log([]), Interruption(), lambda: False)
        server.shutdown(socket.SHUT_RDWR)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2_000


def test_options_of_a_stranger_are_shown_short() -> None:
    listed = addresses(2)
    error: list[Exception] = []

    def start() -> None:
        try:
            join(peers(0, listed, seed=3), Log([]), Interruption(), lambda: False)
        except Exception as caught:
            error.append(caught)

    host = threading.Thread(target=start)
    host.start()
    with _connected(listed) as stranger:
        stranger.sendall(hello(worker=1, told={"workers": 2, "seed": "x" * 500_000}))
        host.join(20)
    assert isinstance(error[0], ConfigError)
    assert "worker 1 has seed 'xxx" in str(error[0])
    assert len(str(error[0])) < 500


def test_host_that_is_no_name(tmp_path: Path) -> None:
    """Python's encoding of host names has an error of its own."""
    with pytest.raises(ConfigError, match=r"--worker-address a{64}: not a host name"):
        join(peers(1, f"{'a' * 64}:2222,b:2222"), Log([]), Interruption(), lambda: False)
