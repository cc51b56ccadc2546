"""Attacks on the workers' own port: by whoever reaches it, on the way between two workers, and by a peer with the key.

Whatever they do, the workers find each other, or stop with one line that names the cause and an exit code that a retry
can follow. The wire's format is spelled out here once more: an attacker does not import ours.
"""

import contextlib
import hashlib
import hmac
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from catsdogs.cli import catsdogs as commands
from catsdogs.config.settings import Settings
from catsdogs.pipeline.session import peers_of
from catsdogs.workers import handshake
from catsdogs.workers.address import control_address
from catsdogs.workers.strangers import HANDSHAKE_SECONDS, MAX_STRANGERS
from catsdogs.workers.transport import Connection, Keys, Kind
from tests.conftest import REPOSITORY
from tests.faults.running import Job, ended, together
from tests.workers import KEY, RUN_ID, addresses, arguments, connected, options

SLOW = pytest.mark.slow
HEARTBEAT = 3.0
"""Seconds."""
MAGIC = b"catsdogs-worker1"
OPTIONS = {"seed": 3}
HELLO = {"worker": 1, "told": {"workers": 2, **OPTIONS}}
ANY = dict.fromkeys(Kind, 1 << 20)


class Worker:
    """A worker of a group, as a process."""

    def __init__(
        self, worker: int, listed: str, *, timeout: float = 20.0, key: bytes = KEY, heartbeat: float = HEARTBEAT
    ):
        fields = {
            "worker": worker, "addresses": listed.split(","), "timeout": timeout, "heartbeat_timeout": heartbeat,
            "options": OPTIONS, "key": key.decode(),
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.worker", json.dumps(fields)],
            cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'job'}"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self.process.pid
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def until(self, text: str, timeout: float = 15) -> None:
        """Wait for a line with this text."""

        def there() -> bool:
            return any(text in line for line in self.lines)

        with self._news:
            self._news.wait_for(lambda: there() or not self._reader.is_alive(), timeout)
            assert there(), self.told()

    def end(self, timeout: float = 15) -> tuple[int, str]:
        """Wait for its end. Return its exit code and the one line that it says."""
        code = self.process.wait(timeout)
        assert self.process.stderr is not None
        [line] = self.process.stderr.read().splitlines()
        assert line.startswith("catsdogs: ")
        assert line.isprintable()
        assert len(line) < 2_000
        return code, line

    def told(self) -> str:
        if self.process.poll() is None:
            return f"still runs: {self.lines}"
        assert self.process.stderr is not None
        return f"{self.process.returncode}: {self.lines} {self.process.stderr.read()}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


Starts = Callable[..., Worker]


@pytest.fixture
def starts() -> Iterator[Starts]:
    """Starts workers, which end with the test."""
    workers: list[Worker] = []

    def start(*fields: Any, **more: Any) -> Worker:
        workers.append(Worker(*fields, **more))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


def port_of(listed: str) -> tuple[str, int]:
    return control_address(listed.split(",")[0])


def connect(listed: str) -> socket.socket:
    """Connect to worker 0, once it listens."""
    deadline = time.monotonic() + 15
    while True:
        try:
            return socket.create_connection(port_of(listed), timeout=5)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def old_message(kind: bytes, body: bytes, size: int | None = None) -> bytes:
    """As it was before messages were authenticated."""
    return struct.pack(">cQ", kind, len(body) if size is None else size) + body


PACKETS = {
    "brackets": old_message(b"h", b"[" * 200_000),
    "infinite index": old_message(b"h", b'{"worker": Infinity}'),
    "other options": old_message(b"h", b'{"worker": 1, "told": {}}'),
    "3 GiB, claimed": old_message(b"h", b"", 3 << 30),
    "2^57 bytes, claimed": old_message(b"h", b"", 1 << 57),
    "last words": old_message(b"e", b"\xff\xfe"),
    "brackets after the greeting": MAGIC + bytes(32) + b"[" * 200_000,
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name.startswith("brackets") else SLOW) for name in PACKETS]
)
def test_one_packet_before_the_start(name: str, starts: Starts) -> None:
    listed = addresses(2)
    host = starts(0, listed)
    with connect(listed) as stranger:
        with contextlib.suppress(OSError):
            # As much as worker 0 looks at first.
            stranger.sendall(PACKETS[name].ljust(16, b"x"))
        stranger.settimeout(HANDSHAKE_SECONDS - 1)
        # It is turned away at once, whatever it has sent.
        with contextlib.suppress(ConnectionResetError):
            while stranger.recv(1 << 16):
                pass
    other = starts(1, listed)
    for worker in (host, other):
        worker.until("gathered")


def test_strangers_take_little_memory(starts: Starts) -> None:
    """Whatever they claim, and however many of them there are."""
    listed = addresses(2)
    host = starts(0, listed)
    connect(listed).close()
    before = resident(host.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stranger = stack.enter_context(connect(listed))
            with contextlib.suppress(OSError):
                stranger.sendall(MAGIC + bytes(32) + old_message(b"d", b"x" * 100_000, 3 << 30))
        assert resident(host.pid) - before < 20 << 20
    starts(1, listed).until("gathered")


def resident(pid: int) -> int:
    """Bytes at their peak."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def dripping(connected: socket.socket, data: bytes) -> threading.Event:
    """Send a byte every now and then, until the event that is returned is set."""
    enough = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            for byte in data:
                connected.sendall(bytes([byte]))
                if enough.wait(0.3):
                    return

    threading.Thread(target=drip, daemon=True).start()
    return enough


@pytest.mark.parametrize("data", [MAGIC + bytes(64), old_message(b"h", b" " * 1000)], ids=["greeting", "message"])
def test_one_byte_now_and_then_does_not_hold_worker_0(data: bytes, starts: Starts) -> None:
    """Neither past its timeout, nor another worker out."""
    listed = addresses(2)
    host = starts(0, listed, timeout=3.0)
    with connect(listed) as stranger:
        began = time.monotonic()
        enough = dripping(stranger, data)
        code, line = host.end(timeout=8)
        assert time.monotonic() - began < 5
        enough.set()
    assert (code, f"worker 1 ({listed.split(',')[1]}): not there within 3.0 s" in line) == (69, True)
    host = starts(0, listed)
    with connect(listed) as stranger:
        began = time.monotonic()
        enough = dripping(stranger, data)
        starts(1, listed).until("gathered")
        assert time.monotonic() - began < 5
        enough.set()


@pytest.mark.parametrize(
    "sent",
    [b"", MAGIC + bytes(50), *(pytest.param(sent, marks=SLOW) for sent in (MAGIC, MAGIC + bytes(32)))],
)
def test_half_open_connections_keep_nobody_out(sent: bytes, starts: Starts) -> None:
    """More of them than worker 0 talks to at once, and all stay."""
    listed = addresses(2)
    host = starts(0, listed)
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(connect(listed)) for _ in range(MAX_STRANGERS + 50)]
        for stranger in strangers:
            with contextlib.suppress(OSError):
                stranger.sendall(sent)
        began = time.monotonic()
        other = starts(1, listed)
        other.until("gathered")
        assert time.monotonic() - began < HANDSHAKE_SECONDS
        threads = len(list(Path(f"/proc/{host.pid}/task").iterdir()))
        assert threads < MAX_STRANGERS


def test_flood_of_connections_keeps_nobody_out(starts: Starts) -> None:
    """As fast as one process can, closed at once, reset, or left open."""
    listed = addresses(2)
    host = starts(0, listed)
    connect(listed).close()
    enough = threading.Event()
    made = 0

    def flood() -> None:
        nonlocal made
        kept: list[socket.socket] = []
        while not enough.is_set():
            with contextlib.suppress(OSError):
                stranger = socket.create_connection(port_of(listed), timeout=1)
                made += 1
                if made % 3 == 0:
                    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if made % 3:
                    kept.append(stranger)
                else:
                    stranger.close()
            while len(kept) > 300:
                kept.pop(0).close()
        for stranger in kept:
            stranger.close()

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        time.sleep(1)
        assert len(list(Path(f"/proc/{host.pid}/fd").iterdir())) < MAX_STRANGERS + 20
        starts(1, listed).until("gathered")
    finally:
        enough.set()
        thread.join()
    assert made > MAX_STRANGERS


def hello(listed: str, document: object = HELLO, key: bytes = KEY) -> Connection:
    """Connect as a worker."""
    with contextlib.ExitStack() as stack:
        stranger = stack.enter_context(connect(listed))
        connection = Connection(stranger, 10.0, handshake.call(stranger, key, time.monotonic() + 10))
        connection.send(Kind.HELLO, json.dumps(document).encode())
        stack.pop_all()
        return connection


def test_stranger_does_not_take_a_workers_place(starts: Starts) -> None:
    """It repeats a hello, or all that a worker has sent."""
    listed = addresses(3)
    host = starts(0, listed)
    connect(listed).close()
    with Tap(listed) as tap:
        first = starts(1, f"{tap.listed},{','.join(listed.split(',')[1:])}")
        first.until("waiting for worker 2")
        recorded = bytes(tap.passed[0])
        assert recorded.startswith(MAGIC)
        assert b'"worker": 1' in recorded
        for sent in (
            old_message(b"h", json.dumps({"worker": 1, "told": {"workers": 3, **OPTIONS}}).encode()),
            recorded,
        ):
            with connect(listed) as stranger:
                with contextlib.suppress(OSError):
                    stranger.sendall(sent)
                stranger.settimeout(HANDSHAKE_SECONDS + 2)
                with contextlib.suppress(ConnectionResetError):
                    while stranger.recv(1 << 16):
                        pass
        second = starts(2, listed)
        for worker in (host, first, second):
            worker.until("gathered")
        assert len(tap.passed) == 2, "worker 1 has had to connect again"


class Tap:
    """Something on the way to worker 0, which passes everything on, as `change` makes it."""

    def __init__(self, listed: str, change: "Callable[[bytes], bytes] | None" = None):
        self._address = port_of(listed)
        self._server = socket.create_server(("127.0.0.1", 0))
        # The address of worker 0's TensorFlow, whose next port is this.
        self.listed = f"127.0.0.1:{self._server.getsockname()[1] - 1}"
        self.passed: list[bytearray] = []
        """What each direction of each connection has sent, to worker 0 first."""
        self._sockets: list[socket.socket] = []
        self._change = change or (lambda data: data)

    def __enter__(self) -> "Tap":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._server, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._server.accept()[0]
                far = socket.create_connection(self._address)
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    self.passed.append(bytearray())
                    threading.Thread(target=self._pass, args=(source, target, self.passed[-1]), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, record: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                record += data
                target.sendall(self._change(data))
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


def test_recorded_session_is_worth_nothing_at_the_next_start(starts: Starts) -> None:
    """Worker 0 has the same key, but another nonce."""
    listed = addresses(2)
    host = starts(0, listed)
    connect(listed).close()
    with Tap(listed) as tap:
        other = starts(1, f"{tap.listed},{listed.split(',')[1]}")
        other.until("gathered")
        recorded = bytes(tap.passed[0])
    host.close()
    other.close()
    host = starts(0, listed, timeout=4.0)
    with connect(listed) as stranger, contextlib.suppress(OSError):
        stranger.sendall(recorded)
        while stranger.recv(1 << 16):
            pass
    host.until("has another key and cannot join")
    code, line = host.end()
    assert (code, "worker 1 " in line) == (69, True)


def test_reflected_handshake_proves_nothing() -> None:
    """Worker 0 gets its own bytes back, and so does a caller."""
    with sockets() as (near, far), ThreadPoolExecutor(1) as pool:
        host = pool.submit(handshake.answer, near, KEY, time.monotonic() + 5)
        far.sendall(MAGIC + bytes(32))
        far.sendall(far.recv(80, socket.MSG_WAITALL)[48:])
        with pytest.raises(handshake.AnotherKey):
            host.result()
    with sockets() as (near, far), ThreadPoolExecutor(1) as pool:
        caller = pool.submit(handshake.call, near, KEY, time.monotonic() + 5)
        far.sendall(far.recv(48, socket.MSG_WAITALL) + bytes(32))
        with pytest.raises(handshake.AnotherKey):
            caller.result()


@pytest.mark.parametrize("length", [0, 1, 16, 31])
def test_truncated_proof_and_tag(length: int, starts: Starts) -> None:
    """Neither an end of the connection nor zeros stand for the rest."""
    listed = addresses(2)
    host = starts(0, listed, timeout=3.0)
    for rest in (b"", bytes(32 - length)):
        with connect(listed) as stranger, contextlib.suppress(OSError):
            nonce = bytes(range(32))
            stranger.sendall(MAGIC + nonce)
            nonces = nonce + stranger.recv(80, socket.MSG_WAITALL)[16:48]
            proof = hmac.new(KEY, b"proof of the caller" + nonces, hashlib.sha256).digest()
            stranger.sendall(proof[:length] + rest)
            stranger.shutdown(socket.SHUT_WR)
        with connect(listed) as stranger, contextlib.suppress(OSError):
            keys = handshake.call(stranger, KEY, time.monotonic() + 5)
            body = json.dumps(HELLO).encode()
            head = struct.pack(">cQ", b"h", len(body))
            for number, data in enumerate((head, body), 1):
                tag = hmac.new(keys.outgoing, struct.pack(">Q", number) + data, hashlib.sha256).digest()
                stranger.sendall(data + (tag if data is head else tag[:length] + rest))
            stranger.shutdown(socket.SHUT_WR)
    assert host.end()[0] == 69


@contextlib.contextmanager
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as near,
        server.accept()[0] as far,
    ):
        yield near, far


def frames(keys_of: Connection, receiver: socket.socket, count: int) -> list[bytes]:
    """Return the bytes of messages as they are sent, each a head and its tag."""
    for _ in range(count):
        keys_of.beat()
    data = receiver.recv(count * 41, socket.MSG_WAITALL)
    return [data[start : start + 41] for start in range(0, len(data), 41)]


ORDERS = {
    "repeated": [0, 0], "exchanged": [1, 0], "left out": [0, 2], "the first again": [0, 1, 2, 0],
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_messages_in_another_order(order: list[int]) -> None:
    keys = Keys(b"o" * 32, b"i" * 32)
    with sockets() as (near, far):
        sent = frames(Connection(near, 5.0, keys), far, 3)
        far.sendall(b"".join(sent[index] for index in order))
        receiver = Connection(near, 5.0, Keys(outgoing=keys.incoming, incoming=keys.outgoing))
        for _ in order[:-1]:
            if order[0] != 0:
                break
            assert receiver.receive(ANY) == (Kind.BEAT, b"")
        with pytest.raises(ConnectionError, match="that no worker of this run has sent"):
            receiver.receive(ANY)


def test_messages_sent_back_or_from_another_connection() -> None:
    for replayed in ("own", "other"):
        first, second = (connected(0) for _ in range(2))
        with contextlib.ExitStack() as stack:
            for connection in (*first, *second):
                stack.callback(connection.close)
            one = first[0] if replayed == "own" else second[1]
            one.send(Kind.DATA, b"x")
            raw = (first[1] if replayed == "own" else second[0])._socket.recv(1 << 16)
            # Back to the one that has sent it, or to another one.
            first[1]._socket.sendall(raw)
            with pytest.raises(ConnectionError, match="that no worker of this run has sent"):
                first[0].receive(ANY)


def test_any_flipped_bit_and_any_cut_is_noticed() -> None:
    """The message is refused, or cut off; never another one."""
    keys = Keys(b"o" * 32, b"o" * 32)
    with sockets() as (near, far):
        Connection(near, 5.0, keys).send(Kind.DATA, b"body")
        message = far.recv(1 << 16)
    for place in range(len(message)):
        for changed in (message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :], message[:place]):
            with sockets() as (near, far):
                far.sendall(changed)
                far.shutdown(socket.SHUT_WR)
                with pytest.raises(ConnectionError):
                    Connection(near, 5.0, keys).receive(ANY)


def test_bit_flipped_on_the_way_stops_all_in_order(starts: Starts) -> None:
    """As a cut cable does: both end with 75, and one line."""
    listed = addresses(2)
    host = starts(0, listed)
    connect(listed).close()
    flip = threading.Event()

    def change(data: bytes) -> bytes:
        return bytes([data[0] ^ 1]) + data[1:] if flip.is_set() else data

    with Tap(listed, change) as tap:
        other = starts(1, f"{tap.listed},{listed.split(',')[1]}")
        other.until("gathered")
        flip.set()
        for worker in (host, other):
            code, line = worker.end(timeout=2 * HEARTBEAT)
            assert (code, "the same command resumes from the last checkpoint" in line) == (75, True), line


def test_another_key_is_named_by_both(starts: Starts) -> None:
    """Nothing is lost: the worker with the right key comes in."""
    listed = addresses(2)
    host = starts(0, listed)
    wrong = starts(1, listed, timeout=3.0, key=b"another key of enough characters")
    host.until("127.0.0.1 has another key and cannot join; give all workers the same --worker-key-file")
    wrong.until("has another key and cannot join; give all workers the same --worker-key-file")
    code, line = wrong.end()
    address = listed.split(",")[0]
    assert code == 78
    assert f"worker 0 ({address}): still has another key after 3.0 s; give all workers the same" in line
    right = starts(1, listed)
    for worker in (host, right):
        worker.until("gathered")
    everything = "".join((*host.lines, *wrong.lines, line))
    assert KEY.decode() not in everything
    assert "another key of enough" not in everything


def test_worker_0_names_the_stranger_with_another_key_at_the_end(starts: Starts) -> None:
    listed = addresses(2)
    host = starts(0, listed, timeout=3.0)
    with contextlib.suppress(OSError):
        hello(listed, key=b"another key of enough characters").close()
    code, line = host.end()
    assert code == 69
    assert "not there within 3.0 s; 127.0.0.1 has another key; give all workers the same --worker-key-file" in line


def test_impostor_in_worker_0s_place(starts: Starts) -> None:
    """It speaks the protocol, without the key. Once it is gone, the worker finds the real one."""
    listed = addresses(2)
    with socket.create_server(port_of(listed)) as server:
        other = starts(1, listed)
        for answer in (MAGIC + bytes(64), b"x" * 80, old_message(b"r", b"told to end"), old_message(b"s", b"")):
            impostor = server.accept()[0]
            with impostor:
                impostor.sendall(answer)
                with contextlib.suppress(OSError):
                    while impostor.recv(1000):
                        pass
        assert other.process.poll() is None, other.told()
    host = starts(0, listed)
    for worker in (host, other):
        worker.until("gathered")


def test_worker_that_is_started_again_takes_its_place_again(starts: Starts) -> None:
    listed = addresses(3)
    host = starts(0, listed)
    connect(listed).close()
    dead = starts(1, listed)
    dead.until("waiting for worker 2")
    dead.close()
    again, second = starts(1, listed), starts(2, listed)
    for worker in (host, again, second):
        worker.until("gathered")


def test_of_two_processes_with_one_index_the_later_stays(starts: Starts) -> None:
    """The earlier one ends, and may be started again: it does not fight for its place."""
    listed = addresses(3)
    host = starts(0, listed)
    connect(listed).close()
    earlier = starts(1, listed)
    earlier.until("waiting for worker 2")
    later = starts(1, listed)
    code, line = earlier.end()
    assert (code, "worker 1 was started once more, and takes this one's place" in line) == (75, True)
    second = starts(2, listed)
    for worker in (host, later, second):
        worker.until("gathered")


def test_peer_that_stops_after_its_proof_holds_nobody(starts: Starts) -> None:
    """A worker that hangs in the middle of its hello."""
    listed = addresses(2)
    host = starts(0, listed)
    with connect(listed) as stranger:
        keys = handshake.call(stranger, KEY, time.monotonic() + 5)
        head = struct.pack(">cQ", b"h", 1000)
        tag = hmac.new(keys.outgoing, struct.pack(">Q", 1) + head, hashlib.sha256).digest()
        enough = dripping(stranger, head + tag + b" " * 1000)
        starts(1, listed).until("gathered")
        host.until("gathered")
        enough.set()


Attack = Callable[[Connection], None]


def tagged(connection: Connection, kind: bytes, size: int) -> None:
    """Send only the head of a message."""
    head = struct.pack(">cQ", kind, size)
    connection._socket.sendall(head + connection._outgoing_tags.next(head))


def flood_of_data(connection: Connection) -> None:
    for _ in range(100):
        connection.send(Kind.DATA, b"{}")


FROM_A_PEER: dict[str, tuple[Attack, str]] = {
    "2^57 bytes, claimed": (
        lambda peer: tagged(peer, b"d", 1 << 57), "a message of 144,115,188,075,855,872 bytes, more than",
    ),
    "3 GiB, claimed": (lambda peer: tagged(peer, b"d", 3 << 30), "a message of 3,221,225,472 bytes, more than"),
    "last words that are no text": (
        lambda peer: peer.send(Kind.ENDED, b"\xff\xfe\x1b[2J http://me:secret@host"),
        "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}\\x1b[2J http://***@host",
    ),
    "long last words": (lambda peer: peer.send(Kind.ENDED, b"x" * 2_000), "2,000 bytes, more than 1,000"),
    "an end that is not its own": (lambda peer: peer.send(Kind.DONE), "an unexpected message, DONE"),
    "the start again": (lambda peer: peer.send(Kind.HELLO, b"{}"), "an unexpected message, HELLO"),
    "more than it was asked for": (flood_of_data, ""),
    "brackets": (lambda peer: peer.send(Kind.DATA, b"[" * 200_000), "nested too deeply"),
    "infinity": (lambda peer: peer.send(Kind.DATA, b'{"from": Infinity}'), "Infinity is not JSON"),
    "a number that overflows": (lambda peer: peer.send(Kind.DATA, b'{"from": 1e999}'), "is not"),
    "a leave that nobody agreed to": (lambda peer: peer.send(Kind.LEAVING), "is lost: it has left"),
    "half a message": (lambda peer: tagged(peer, b"d", 1000), f"is lost: nothing heard for {HEARTBEAT:g} s"),
}  # fmt: skip
ALIKE = ("3 GiB, claimed", "the start again", "infinity", "long last words")
"""Refused by the same lines as another one."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW if name in ALIKE else ()) for name in FROM_A_PEER])
def test_peer_with_the_key_cannot_hold_or_crash_worker_0(name: str, starts: Starts) -> None:
    """Such as a worker that was taken over, after the start."""
    attack, reason = FROM_A_PEER[name]
    listed = addresses(2)
    host = starts(0, listed)
    connection = hello(listed)
    with contextlib.closing(connection):
        until_kind(connection, Kind.START)
        began = time.monotonic()
        with contextlib.suppress(OSError):
            attack(connection)
        code, line = host.end(timeout=4 * HEARTBEAT)
        assert time.monotonic() - began < 3 * HEARTBEAT
    assert (code, reason in line) == (75, True), line


NO_RECORDS = b"{}"
ELSEWHERE = b'{"train/cats/cat.0.jpg": ["../../../../escaped.jpg", "cat.0.jpg", 1, "0"]}'
FROM_A_PREPARING_PEER: dict[str, tuple[bytes, bytes, str]] = {
    "an image of no archive": (b'[["cat", 99999, "broken"]]', b"{}", "that the archive does not have"),
    "a number below 0": (b'[["cat", -1, "broken"]]', b"{}", "that the archive does not have"),
    "no records": (b"[]", NO_RECORDS, "sent records that are not of its images"),
    "records of files elsewhere": (b"[]", ELSEWHERE, "sent records that are not of its images"),
    "records of nothing": (b"[]", b'{"train/cats/cat.0.jpg": null}', ": None is not of type"),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "records of files elsewhere" else SLOW) for name in FROM_A_PREPARING_PEER],
)
def test_peer_with_the_key_cannot_spoil_the_split(name: str, sample_archive: Path, tmp_path: Path) -> None:
    """It says of its images what cannot be. Worker 0 ends in order, and writes nothing elsewhere."""
    broken, records, reason = FROM_A_PREPARING_PEER[name]
    _, *given = arguments(tmp_path, sample_archive, "--epochs=1")
    code, alone = ended("prepare", *given, f"--volume={tmp_path / 'alone'}", env={}, directory=tmp_path)
    assert code == 0, alone.stderr
    [prepared] = (tmp_path / "alone" / "splits").iterdir()
    listed = addresses(2)
    own = [*given, *options(0, 2, listed, tmp_path)]
    with together([Job("prepare", *own, env={}, directory=tmp_path)]) as [host]:
        settings = Settings.of(**_parsed(own))
        with contextlib.closing(
            hello(listed, {"worker": 1, "told": {"workers": 2, **peers_of(settings).options}})
        ) as peer:
            until_kind(peer, Kind.START)
            for answer in (json.dumps(prepared.name).encode(), b"false", broken, records):
                with contextlib.suppress(OSError):
                    peer.send(Kind.DATA, answer)
                    until_kind(peer, Kind.DATA)
            code = host.wait(60)
    assert (code, reason in host.said()) == (75, True), host.stderr
    assert not list(tmp_path.rglob("escaped*"))


def _parsed(given: list[str]) -> dict[str, Any]:
    parsed = dict(commands.commands["prepare"].make_context("prepare", list(map(str, given))).params)
    del parsed["log_format"]
    return parsed


def until_kind(connection: Connection, awaited: Kind) -> None:
    while connection.receive(ANY)[0] is not awaited:
        pass


def test_without_a_key_only_this_machine_is_served(starts: Starts) -> None:
    """Whoever is elsewhere finds no port; whoever is here is warned of."""
    own = outward_address()
    if own is None:
        pytest.skip("this machine has no address but loopback")
    listed = addresses(2)
    host = starts(0, listed, key=b"")
    connect(listed).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((own, port_of(listed)[1]), timeout=5)
    host.until("the workers have no key, so anybody on this machine can join or stop the run")
    starts(1, listed, key=b"").until("gathered")


def outward_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


@contextlib.contextmanager
def besieged(listed: str) -> Iterator[list[int]]:
    """Send everything that this file knows to both workers' own ports, again and again, and count it."""
    enough, sent = threading.Event(), [0]

    def siege(port: tuple[str, int]) -> None:
        while not enough.is_set():
            for packet in (*PACKETS.values(), b"", MAGIC + bytes(64)):
                with contextlib.suppress(OSError), socket.create_connection(port, timeout=1) as stranger:
                    stranger.sendall(packet)
                    sent[0] += 1
            enough.wait(0.02)

    threads = [threading.Thread(target=siege, args=(control_address(address),)) for address in listed.split(",")]
    for thread in threads:
        thread.start()
    try:
        yield sent
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def under_attack(command: str, sample_archive: Path, tmp_path: Path) -> None:
    listed = addresses(2)

    def worker(index: int) -> Job:
        _, *given = arguments(tmp_path, sample_archive, "--epochs=1", *options(index, 2, listed, tmp_path))
        return Job(command, *given, env={}, directory=tmp_path)

    with besieged(listed) as sent, together([worker(0)]) as [host]:
        host.until("assembling")
        deadline = time.monotonic() + 20
        while sent[0] < 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        with together([worker(1)]) as [other]:
            assert [job.wait() for job in (host, other)] == [0, 0], [job.stderr for job in (host, other)]
    assert sent[0] >= 20
    assert [job.stderr for job in (host, other)] == ["", ""]
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "key":
            assert KEY not in path.read_bytes(), path
    assert KEY.decode() not in host.stdout + other.stdout


@SLOW
def test_real_workers_under_attack(sample_archive: Path, tmp_path: Path) -> None:
    under_attack("prepare", sample_archive, tmp_path)


@SLOW
def test_real_training_under_attack(sample_archive: Path, tmp_path: Path) -> None:
    under_attack("run", sample_archive, tmp_path)
    assert (tmp_path / "runs" / RUN_ID / "manifest.json").exists()
