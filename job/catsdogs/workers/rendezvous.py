"""The start of a run on several workers: none begins before all are connected and agree on the options."""

import contextlib
import json
import math
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from catsdogs.runtime.errors import ConfigError, Interrupted, JobError, Unavailable
from catsdogs.runtime.events import Assembled, Assembling, Unauthenticated, WrongKey
from catsdogs.runtime.formatting import duration_text
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage.schema import parse
from catsdogs.workers import handshake
from catsdogs.workers.address import control_address, is_local
from catsdogs.workers.group import SINGLE, WorkerGroup, differing
from catsdogs.workers.handshake import AnotherKey
from catsdogs.workers.key import NO_KEY
from catsdogs.workers.strangers import HANDSHAKE_SECONDS, Hello, Strangers
from catsdogs.workers.transport import MAX_TEXT, Connection, Kind, listen, text_of

POLL_SECONDS = 0.5
REPORT_SECONDS = 10.0
"""Between two reports of what a worker waits for, and between two looks at whether the run is published."""
CONNECT_SECONDS = 2.0
MAX_NAMED = 5
MAX_WAITING = 1 << 16
"""Bytes of a list of the missing workers."""
_REPLACED = "worker {worker} was started once more, and takes this one's place; give each worker an index of its own"


@dataclass(frozen=True)
class Peers:
    """The workers of a run, as one of them was configured."""

    worker: int
    """This worker's index. The others connect to worker 0."""
    addresses: Sequence[str]
    """Where each worker's TensorFlow listens, host:port, by index; empty for a single worker."""
    timeout: float
    """Seconds to wait for the others."""
    heartbeat_timeout: float
    options: Mapping[str, object]
    """What must be the same in all workers."""
    key: bytes = field(repr=False)
    """What proves that a peer is one of them; NO_KEY only if all are on one machine."""

    @property
    def size(self) -> int:
        return max(1, len(self.addresses))


def join(peers: Peers, log: Log, interruption: Interruption, published: Callable[[], bool]) -> WorkerGroup | None:
    """Wait until all workers are connected. Return None if the run is `published` meanwhile, as when this worker was
    restarted at the end of it.

    Raises Unavailable after the timeout, naming the missing workers, ConfigError if one has other options, Interrupted.
    """
    if peers.size == 1:
        return SINGLE
    if "TF_CONFIG" in os.environ:
        raise ConfigError("TF_CONFIG and --workers are both set, and describe the same; unset TF_CONFIG")
    if peers.key == NO_KEY:
        log.emit(Unauthenticated())
    connections: Mapping[int, Connection] | None
    if peers.worker:
        connections = _Caller(peers, log, interruption).connect(published)
    else:
        connections = _Host(peers, log, interruption).accept_all()
    if connections is None:
        return None
    return WorkerGroup(peers.worker, peers.size, connections, peers.heartbeat_timeout, interruption)


class _Waiting:
    """A worker that waits for the missing ones, and reports it."""

    def __init__(self, peers: Peers, log: Log, interruption: Interruption):
        self.peers, self.log, self.interruption = peers, log, interruption
        self.options = {"workers": peers.size, **peers.options}
        self.began = self.reported = time.monotonic()
        self.missing: list[int] = [0] if peers.worker else list(range(1, peers.size))
        self.another_key = ""
        """The last peer that had another key."""
        self.another_key_reported = -math.inf

    def wait(self, problem: str = "") -> None:
        """Report from time to time what this worker waits for: the missing workers, unless it is a `problem`.

        Raises Unavailable after the timeout, Interrupted.
        """
        self.interruption.check()
        now = time.monotonic()
        left = self.peers.timeout - (now - self.began)
        awaited = problem or self._missing_workers()
        if left <= 0:
            raise self.gave_up(awaited)
        if now - self.reported > REPORT_SECONDS or self.reported == self.began:
            self.reported = now
            self.log.emit(Assembling(whom=awaited, left=left))

    def gave_up(self, awaited: str) -> JobError:
        """Return the error to raise after the timeout."""
        waited = duration_text(self.peers.timeout)
        advice = "look at why, or raise --worker-timeout"
        if self.another_key:
            advice = f"{self.another_key} has another key; give all workers the same --worker-key-file"
        return Unavailable(f"{awaited}: not there within {waited}; {advice}")

    def report_another_key(self, peer: str) -> None:
        """Report from time to time that a peer has another key. Strangers do not end the wait."""
        self.another_key = peer
        now = time.monotonic()
        if now - self.another_key_reported > REPORT_SECONDS:
            self.another_key_reported = now
            self.log.emit(WrongKey(peer=peer))

    def _missing_workers(self) -> str:
        named = [f"worker {worker} ({self.peers.addresses[worker]})" for worker in self.missing[:MAX_NAMED]]
        more = len(self.missing) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")


class _Host(_Waiting):
    """Worker 0, to which the others connect."""

    def accept_all(self) -> Mapping[int, Connection]:
        """Return a connection to every other worker. Raises what `join` raises."""
        connections: dict[int, Connection] = {}
        try:
            with contextlib.closing(Strangers(self._listen(), self.peers.key)) as strangers:
                strangers.start()
                reported = -math.inf
                while self.missing:
                    hello = strangers.take(POLL_SECONDS)
                    if hello is not None:
                        self._admit(hello, connections)
                    if strangers.another_key:
                        self.report_another_key(strangers.another_key)
                        strangers.another_key = ""
                    # One that was killed must not be started with in the moment before the same worker is back.
                    for worker in [worker for worker, connection in connections.items() if connection.is_closed()]:
                        connections.pop(worker).close()
                    self.missing = [worker for worker in range(1, self.peers.size) if worker not in connections]
                    if self.missing and time.monotonic() - reported >= POLL_SECONDS:
                        reported = time.monotonic()
                        self._report_missing(connections)
        except BaseException:
            for connection in connections.values():
                connection.close()
            raise
        for connection in connections.values():
            # If this one is lost by now, its heartbeat tells.
            with contextlib.suppress(OSError):
                connection.send(Kind.START)
        self.log.emit(Assembled(workers=self.peers.size, seconds=time.monotonic() - self.began))
        return connections

    def _listen(self) -> socket.socket:
        """Return a server, for this machine only if all workers are on it."""
        host, port = control_address(self.peers.addresses[0])
        while True:
            try:
                return listen(port, host if all(map(is_local, self.peers.addresses)) else "")
            except OSError as error:
                # Another process may be about to end.
                self.wait(f"port {port}: {error.strerror or error}")
                time.sleep(POLL_SECONDS)

    def _admit(self, hello: Hello, connections: dict[int, Connection]) -> None:
        """Add the connection of a worker. Of two processes with one index, the later stays, as the earlier may be dead;
        it ends if it is not. Raises ConfigError, and refuses all, if the worker has other options."""
        for name, ours in json.loads(json.dumps(self.options)).items():
            if hello.options.get(name) != ours:
                text = differing(name, hello.worker, hello.options.get(name), ours)
                text += "; give all workers the same options"
                for other in (hello.connection, *connections.values()):
                    other.send_last(Kind.REFUSED, text)
                hello.connection.close()
                raise ConfigError(text)
        if not 1 <= hello.worker < self.peers.size:
            hello.connection.close()
            return
        earlier = connections.get(hello.worker)
        if earlier is not None:
            earlier.send_last(Kind.ENDED, _REPLACED.format(worker=hello.worker))
            earlier.close()
        hello.connection.set_timeout(self.peers.heartbeat_timeout)
        connections[hello.worker] = hello.connection

    def _report_missing(self, connections: dict[int, Connection]) -> None:
        """Report the missing workers to the connected ones too, which shows which of them are gone again."""
        self.wait()
        for worker, connection in list(connections.items()):
            try:
                connection.send(Kind.WAITING, json.dumps(self.missing).encode())
            except OSError:
                connections.pop(worker).close()
                self.missing.append(worker)


class _Caller(_Waiting):
    """A worker other than 0, which connects to worker 0."""

    def connect(self, published: Callable[[], bool]) -> Mapping[int, Connection] | None:
        """Return the connection to worker 0, once all others have one too; None if the run is `published`. Raises
        what `join` raises."""
        asked = time.monotonic()
        while True:
            # Worker 0 may not have started yet, and may be restarted meanwhile.
            try:
                return {0: self._connect()}
            except AnotherKey:
                self.missing = [0]
                self.report_another_key(self._missing_workers())
            except OSError:
                self.another_key = ""
            if time.monotonic() - self.began >= self.peers.timeout:
                # It may have been connected until now: then those are missing that worker 0 waits for.
                self.wait()
            self.missing = [0]
            self.wait()
            if time.monotonic() - asked > REPORT_SECONDS:
                asked = time.monotonic()
                with contextlib.suppress(JobError):
                    if published():
                        return None
            time.sleep(POLL_SECONDS)

    def gave_up(self, awaited: str) -> JobError:
        if self.another_key:
            waited = duration_text(self.peers.timeout)
            return ConfigError(
                f"{awaited}: still has another key after {waited}; give all workers the same --worker-key-file"
            )
        return super().gave_up(awaited)

    def _connect(self) -> Connection:
        """Raises OSError if worker 0 cannot be reached, or is lost: AnotherKey if it has another key."""
        host, port = control_address(self.peers.addresses[0])
        with contextlib.ExitStack() as stack:
            try:
                connected = stack.enter_context(socket.create_connection((host, port), timeout=CONNECT_SECONDS))
            except UnicodeError:
                raise ConfigError(f"--worker-address {host}: not a host name") from None
            keys = handshake.call(connected, self.peers.key, time.monotonic() + HANDSHAKE_SECONDS)
            connection = Connection(connected, self.peers.heartbeat_timeout, keys)
            connection.send(Kind.HELLO, Hello.body(self.peers.worker, self.options))
            self._await_start(connection)
            stack.pop_all()
            return connection

    def _await_start(self, connection: Connection) -> None:
        limits = {Kind.WAITING: MAX_WAITING, Kind.START: 0, Kind.REFUSED: MAX_TEXT, Kind.ENDED: MAX_TEXT}
        self.another_key = ""
        while True:
            deadline = min(
                time.monotonic() + self.peers.heartbeat_timeout, self.began + self.peers.timeout + POLL_SECONDS
            )
            kind, body = connection.receive(limits, deadline)
            match kind:
                case Kind.START:
                    return
                case Kind.REFUSED:
                    raise ConfigError(text_of(body))
                case Kind.ENDED:
                    raise Interrupted(text_of(body))
                case Kind.WAITING:
                    self.missing = self._workers_in(body)
                    self.wait()

    def _workers_in(self, body: bytes) -> list[int]:
        """Raises ConnectionError if it is not a list of workers."""
        with contextlib.suppress(ValueError):
            workers = parse(body, list[int])
            if all(0 <= worker < self.peers.size for worker in workers):
                return workers
        raise ConnectionError("received something other than a list of workers")
