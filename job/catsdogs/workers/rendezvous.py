"""The start of a run on several workers: nobody begins before all are there and agree on what is to be done."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catsdogs.runtime.errors import ConfigError, JobError, Unavailable
from catsdogs.runtime.events import Assembled, Assembling
from catsdogs.runtime.formatting import duration_text
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.workers.group import HELLO, REFUSED, SINGLE, START, WAITING, WorkerGroup
from catsdogs.workers.transport import MAX_FROM_STRANGERS, Link, listen

POLL_SECONDS = 0.5
SAY_SECONDS = 10.0
MAX_NAMED = 5


@dataclass(frozen=True)
class Peers:
    """The workers of a run, as one of them was configured."""

    worker: int
    """This worker's index. Worker 0 is the one that the others connect to."""
    addresses: Sequence[str]
    """Where each worker's TensorFlow listens, host:port, by index; empty for a single worker."""
    timeout: float
    """Seconds to wait for the others."""
    heartbeat_timeout: float
    options: Mapping[str, Any]
    """What all workers must have been given alike."""

    @property
    def size(self) -> int:
        return max(1, len(self.addresses))


def join(peers: Peers, log: Log, interruption: Interruption, published: Callable[[], bool]) -> WorkerGroup | None:
    """Wait until all workers are there; None if the run is `published` meanwhile, as when this worker was restarted
    at the end of it.

    Raises Unavailable after the timeout, naming the missing workers, ConfigError if one was given other options,
    Interrupted.
    """
    if peers.size == 1:
        return SINGLE
    if "TF_CONFIG" in os.environ:
        raise ConfigError("TF_CONFIG is set, and so is --workers, which says the same; unset TF_CONFIG")
    rendezvous = _Rendezvous(peers, log, interruption)
    links = rendezvous.connect(published) if peers.worker else rendezvous.accept_all()
    if links is None:
        return None
    return WorkerGroup(peers.worker, peers.size, links, peers.heartbeat_timeout, interruption)


def place_of(address: str) -> tuple[str, int]:
    """Host and port for what goes beside TensorFlow: the port after TensorFlow's."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) + 1


class _Rendezvous:
    def __init__(self, peers: Peers, log: Log, interruption: Interruption):
        self.peers, self.log, self.interruption = peers, log, interruption
        self.options = {"workers": peers.size, **peers.options}
        self.began = self.said = time.monotonic()
        self.missing: list[int] = [0] if peers.worker else list(range(1, peers.size))

    def accept_all(self) -> dict[int, Link]:
        links: dict[int, Link] = {}
        try:
            with contextlib.closing(self._listening()) as server:
                server.settimeout(POLL_SECONDS)
                while self.missing:
                    with contextlib.suppress(TimeoutError):
                        connection, _ = server.accept()
                        self._welcome(connection, links)
                    self._tell(links)
        except BaseException:
            for link in links.values():
                link.close()
            raise
        for link in links.values():
            # One that is lost just now is found lost by its heartbeat.
            with contextlib.suppress(OSError):
                link.send(START)
        self.log.emit(Assembled(workers=self.peers.size, seconds=time.monotonic() - self.began))
        return links

    def _tell(self, links: dict[int, Link]) -> None:
        """Those who are there whom they wait for; thereby it is noticed who has gone again."""
        self.missing = [worker for worker in range(1, self.peers.size) if worker not in links]
        if not self.missing:
            return
        self._wait()
        for worker, link in list(links.items()):
            try:
                link.send(WAITING, json.dumps(self.missing).encode())
            except OSError:
                links.pop(worker).close()

    def _listening(self) -> socket.socket:
        port = place_of(self.peers.addresses[0])[1]
        while True:
            try:
                return listen(port)
            except OSError as error:
                # Another process may be about to end.
                self._wait(f"port {port}: {error.strerror or error}")
                time.sleep(POLL_SECONDS)

    def _welcome(self, connection: socket.socket, links: dict[int, Link]) -> None:
        """Who says hello, takes part; of two with one index the later, as the earlier may be dead."""
        # Not long: meanwhile nobody else is welcomed.
        link = Link(connection, 2.0)
        try:
            kind, body = link.receive(MAX_FROM_STRANGERS)
            document = json.loads(body) if kind == HELLO else {}
            worker, told = int(document["worker"]), dict(document["told"])
        except (OSError, ValueError, KeyError, TypeError):
            link.close()
            return
        for name, ours in json.loads(json.dumps(self.options)).items():
            if told.get(name) != ours:
                text = f"worker {worker} was told {name} {told.get(name)!r}, worker 0 {ours!r}"
                text += "; give all workers the same options"
                for other in [link, *links.values()]:
                    other.send_last(REFUSED, text.encode())
                link.close()
                raise ConfigError(text)
        if not 1 <= worker < self.peers.size:
            link.close()
            return
        if worker in links:
            links[worker].close()
        links[worker] = Link(connection, self.peers.heartbeat_timeout)

    def connect(self, published: Callable[[], bool]) -> dict[int, Link] | None:
        host, port = place_of(self.peers.addresses[0])
        hello = json.dumps({"worker": self.peers.worker, "told": self.options}).encode()
        asked = time.monotonic()
        while True:
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                connection = stack.enter_context(socket.create_connection((host, port), timeout=2.0))
                link = Link(connection, self.peers.heartbeat_timeout)
                link.send(HELLO, hello)
                self._await_start(link)
                stack.pop_all()
                return {0: link}
            self.missing = [0]
            self._wait()
            if time.monotonic() - asked > SAY_SECONDS:
                asked = time.monotonic()
                with contextlib.suppress(JobError):
                    if published():
                        return None
            time.sleep(POLL_SECONDS)

    def _await_start(self, link: Link) -> None:
        while True:
            kind, body = link.receive()
            if kind == START:
                return
            if kind == REFUSED:
                raise ConfigError(body.decode())
            if kind == WAITING:
                self.missing = json.loads(body)
                self._wait()

    def _wait(self, problem: str = "") -> None:
        """Says now and then whom it waits for. Raises Unavailable when it has waited long enough, Interrupted."""
        self.interruption.check()
        now = time.monotonic()
        left = self.peers.timeout - (now - self.began)
        names = problem or self._names()
        if left <= 0:
            waited = duration_text(self.peers.timeout)
            raise Unavailable(f"{names}: not there within {waited}; look at why, or raise --worker-timeout")
        if now - self.said > SAY_SECONDS or self.said == self.began:
            self.said = now
            self.log.emit(Assembling(whom=names, left=left))

    def _names(self) -> str:
        named = [f"worker {worker} ({self.peers.addresses[worker]})" for worker in self.missing[:MAX_NAMED]]
        more = len(self.missing) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")
