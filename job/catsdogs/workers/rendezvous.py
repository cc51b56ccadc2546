"""The start of a run on several workers: none begins before all are connected and agree on the options."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from catsdogs.runtime.errors import ConfigError, JobError, Unavailable
from catsdogs.runtime.events import Assembled, Assembling
from catsdogs.runtime.formatting import duration_text
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.workers.group import SINGLE, WorkerGroup, differing
from catsdogs.workers.schema import parse
from catsdogs.workers.transport import Connection, Kind, listen, text_of

POLL_SECONDS = 0.5
REPORT_SECONDS = 10.0
"""Between two reports of what a worker waits for, and between two looks at whether the run is published."""
HELLO_SECONDS = 2.0
"""For a peer to identify itself. Short, as no other peer is admitted meanwhile."""
MAX_NAMED = 5


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
    connections: Mapping[int, Connection] | None
    if peers.worker:
        connections = _Caller(peers, log, interruption).connect(published)
    else:
        connections = _Host(peers, log, interruption).accept_all()
    if connections is None:
        return None
    return WorkerGroup(peers.worker, peers.size, connections, peers.heartbeat_timeout, interruption)


def control_address(address: str) -> tuple[str, int]:
    """Return host and port of a worker group's own connections: the port after TensorFlow's `address`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) + 1


class _Waiting:
    """A worker that waits for the missing ones, and reports it."""

    def __init__(self, peers: Peers, log: Log, interruption: Interruption):
        self.peers, self.log, self.interruption = peers, log, interruption
        self.options = {"workers": peers.size, **peers.options}
        self.began = self.reported = time.monotonic()
        self.missing: list[int] = [0] if peers.worker else list(range(1, peers.size))

    def wait(self, problem: str = "") -> None:
        """Report from time to time what this worker waits for: the missing workers, unless it is a `problem`.

        Raises Unavailable after the timeout, Interrupted.
        """
        self.interruption.check()
        now = time.monotonic()
        left = self.peers.timeout - (now - self.began)
        awaited = problem or self._missing_workers()
        if left <= 0:
            waited = duration_text(self.peers.timeout)
            raise Unavailable(f"{awaited}: not there within {waited}; look at why, or raise --worker-timeout")
        if now - self.reported > REPORT_SECONDS or self.reported == self.began:
            self.reported = now
            self.log.emit(Assembling(whom=awaited, left=left))

    def _missing_workers(self) -> str:
        named = [f"worker {worker} ({self.peers.addresses[worker]})" for worker in self.missing[:MAX_NAMED]]
        more = len(self.missing) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")


class _Hello(NamedTuple):
    worker: int
    options: dict[str, object]


class _Host(_Waiting):
    """Worker 0, to which the others connect."""

    def accept_all(self) -> Mapping[int, Connection]:
        """Return a connection to every other worker. Raises what `join` raises."""
        connections: dict[int, Connection] = {}
        try:
            with contextlib.closing(self._listen()) as server:
                server.settimeout(POLL_SECONDS)
                while self.missing:
                    with contextlib.suppress(TimeoutError):
                        self._admit(server.accept()[0], connections)
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
        port = control_address(self.peers.addresses[0])[1]
        while True:
            try:
                return listen(port)
            except OSError as error:
                # Another process may be about to end.
                self.wait(f"port {port}: {error.strerror or error}")
                time.sleep(POLL_SECONDS)

    def _admit(self, connected: socket.socket, connections: dict[int, Connection]) -> None:
        """Add the connection of a peer that identifies itself as a worker. Of two with one index the later stays, as
        the earlier may be dead. Raises ConfigError, and refuses all, if it has other options."""
        stranger = Connection(connected, HELLO_SECONDS)
        hello = _hello(stranger)
        if hello is None:
            stranger.close()
            return
        for name, ours in json.loads(json.dumps(self.options)).items():
            if hello.options.get(name) != ours:
                text = differing(name, hello.worker, hello.options.get(name), ours)
                text += "; give all workers the same options"
                for other in (stranger, *connections.values()):
                    other.send_last(Kind.REFUSED, text.encode())
                stranger.close()
                raise ConfigError(text)
        if not 1 <= hello.worker < self.peers.size:
            stranger.close()
            return
        if hello.worker in connections:
            connections[hello.worker].close()
        connections[hello.worker] = Connection(connected, self.peers.heartbeat_timeout)

    def _report_missing(self, connections: dict[int, Connection]) -> None:
        """Report the missing workers to the connected ones too, which shows which of them are gone again."""
        self.missing = [worker for worker in range(1, self.peers.size) if worker not in connections]
        if not self.missing:
            return
        self.wait()
        for worker, connection in list(connections.items()):
            try:
                connection.send(Kind.WAITING, json.dumps(self.missing).encode())
            except OSError:
                connections.pop(worker).close()


def _hello(stranger: Connection) -> _Hello | None:
    """Return how a peer identifies itself; None if it does not."""
    try:
        kind, body = stranger.receive()
        document = parse(body, dict[str, object]) if kind is Kind.HELLO else {}
        worker, options = document["worker"], document["told"]
    except (OSError, ValueError, KeyError):
        return None
    return _Hello(worker, options) if type(worker) is int and isinstance(options, dict) else None


class _Caller(_Waiting):
    """A worker other than 0, which connects to worker 0."""

    def connect(self, published: Callable[[], bool]) -> Mapping[int, Connection] | None:
        """Return the connection to worker 0, once all others have one too; None if the run is `published`. Raises
        what `join` raises."""
        asked = time.monotonic()
        while True:
            # Worker 0 may not have started yet, and may be restarted meanwhile.
            with contextlib.suppress(OSError):
                return {0: self._connect()}
            self.missing = [0]
            self.wait()
            if time.monotonic() - asked > REPORT_SECONDS:
                asked = time.monotonic()
                with contextlib.suppress(JobError):
                    if published():
                        return None
            time.sleep(POLL_SECONDS)

    def _connect(self) -> Connection:
        """Raises OSError if worker 0 cannot be reached, or is lost."""
        host, port = control_address(self.peers.addresses[0])
        hello = json.dumps({"worker": self.peers.worker, "told": self.options}).encode()
        with contextlib.ExitStack() as stack:
            try:
                connected = stack.enter_context(socket.create_connection((host, port), timeout=HELLO_SECONDS))
            except UnicodeError:
                raise ConfigError(f"--worker-address {host}: not a host name") from None
            connection = Connection(connected, self.peers.heartbeat_timeout)
            connection.send(Kind.HELLO, hello)
            self._await_start(connection)
            stack.pop_all()
            return connection

    def _await_start(self, connection: Connection) -> None:
        while True:
            kind, body = connection.receive()
            if kind is Kind.START:
                return
            if kind is Kind.REFUSED:
                raise ConfigError(text_of(body))
            if kind is Kind.WAITING:
                self.missing = self._workers_in(body)
                self.wait()

    def _workers_in(self, body: bytes) -> list[int]:
        """Raises ConnectionError if it is not a list of workers."""
        with contextlib.suppress(ValueError):
            workers = parse(body, list[int])
            if all(0 <= worker < self.peers.size for worker in workers):
                return workers
        raise ConnectionError("received something other than a list of workers")
