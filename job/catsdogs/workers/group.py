"""The workers of one run, connected beside TensorFlow: they exchange data, and end together.

Worker 0 listens on the port after its own for TensorFlow, and each other worker has one connection to it. Heartbeats go
over it, as TensorFlow's collectives may wait forever for a lost worker, and everything that is not a gradient: settings
to compare, lists of images, checkpoints, predictions. A single worker has none of this.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TypeVar

from catsdogs.runtime import memory
from catsdogs.runtime.errors import ConfigError, Interrupted, masked
from catsdogs.runtime.signals import Interruption
from catsdogs.storage.schema import parse
from catsdogs.workers.abort import ADVICE, Abort
from catsdogs.workers.heartbeat import Heartbeat
from catsdogs.workers.inbox import Inbox
from catsdogs.workers.transport import MAX_TEXT, Connection, Kind, Limits, pack, unpack
from catsdogs.workers.watchdog import StepWatchdog

T = TypeVar("T")

FAREWELL_SECONDS = 5.0
_POLL_SECONDS = 0.2
_MAX_SHOWN = 200
"""Characters of a value or reason that an error's text shows."""
MAX_TO_WORKER_0 = 256 << 20
"""Bytes of data from one worker. The largest are the records of its images, some 300 bytes each."""


class WorkerGroup:
    """All workers of a run, as one of them sees them: worker 0 is connected to every other one, the others to worker 0.

    Every worker must make the same calls in the same order.
    """

    def __init__(
        self,
        worker: int,
        size: int,
        connections: Mapping[int, Connection],
        heartbeat_timeout: float,
        interruption: Interruption,
    ):
        self.worker, self.size = worker, size
        self._connections = connections
        self._heartbeat_timeout = heartbeat_timeout
        self._interruption = interruption
        self._needs_others = True
        self._done = threading.Event()
        self._watchdog = StepWatchdog(heartbeat_timeout)
        self._abort = Abort(worker, connections.values())
        self._heartbeat = Heartbeat(connections.values(), heartbeat_timeout, self._check_step)
        self._inboxes = {
            peer: Inbox(peer, connection, _limits(worker), self._abort, self._lose, self._run_is_done)
            for peer, connection in connections.items()
        }
        for inbox in self._inboxes.values():
            inbox.start()
        if connections:
            self._heartbeat.start()

    def __enter__(self) -> "WorkerGroup":
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Close the connections. An exception that ends this worker ends the others, which get the reason."""
        needed_others = self._needs_others
        self.detach()
        if error is not None and needed_others:
            code = getattr(error, "exit_code", 1)
            self._send_last(Kind.ENDED, f"worker {self.worker} ended with exit code {code}: {error}")
        for connection in self._connections.values():
            connection.close()

    def gather(self, data: bytes) -> list[bytes]:
        """Return what each worker passes, by worker; the same in all of them. Raises Interrupted."""
        if not self._connections:
            return [data]
        if self.worker:
            self._send(0, data)
            try:
                parts = unpack(self._receive(0))
            except ValueError as error:
                raise _malformed(0, error) from None
            if len(parts) != self.size:
                raise _malformed(0, f"data of {len(parts)} workers instead of {self.size}")
            return parts
        parts = [data, *(self._receive(peer) for peer in sorted(self._connections))]
        for peer in self._connections:
            self._send(peer, pack(parts))
        return parts

    def gather_json(self, value: T, expected: type[T]) -> list[T]:
        """Return what each worker passes, by worker. Each value is checked to be of the type `expected`: see
        `schema.parse`. Floats may be NaN, as those of a model that diverged are. Raises Interrupted."""
        if not self._connections:
            return [value]
        values = []
        for worker, part in enumerate(self.gather(json.dumps(value).encode())):
            try:
                values.append(parse(part, expected, with_nan=True))
            except ValueError as error:
                raise _malformed(worker, error) from None
        return values

    def agree(self, name: str, value: object) -> None:
        """Raise ConfigError, in every worker, unless all pass the same value. Raises Interrupted."""
        values = self.gather_json(value, object)
        for worker, theirs in enumerate(values):
            if theirs != values[0]:
                self.leave()
                raise ConfigError(f"{differing(name, worker, theirs, values[0])}; give all workers the same")

    def leave(self) -> None:
        """Announce the end that all workers have agreed to, so that those not there yet do not count this one as
        lost."""
        self.detach()
        self._send_last(Kind.LEAVING)

    def detach(self) -> None:
        """From here on this worker needs no other one: that one of them ends does not matter."""
        self._needs_others = False
        self._abort.disarm()

    def finish(self) -> None:
        """End in order: the others stay until worker 0 is done, which may need them until then. Raises Interrupted."""
        if self.worker == 0:
            self.detach()
            self._send_last(Kind.DONE)
            # Until they have closed: a connection that is closed with something unread loses what was sent.
            for inbox in self._inboxes.values():
                inbox.join(FAREWELL_SECONDS / self.size)
        elif self._connections:
            while not self._done.wait(_POLL_SECONDS):
                self._interruption.check()

    @contextlib.contextmanager
    def watched(self, first_step: float) -> Iterator[None]:
        """Within it, a failure of TensorFlow's collectives counts as a lost worker, and so does a step that does not
        end in time, the first one within `first_step` seconds. Raises Interrupted."""
        with self._watchdog.watching(first_step):
            try:
                yield
            except Exception as error:
                kind = type(error).__name__
                if not self._connections or kind not in _CONNECTION | _MAYBE_CONNECTION:
                    raise
                # Meanwhile the worker that knows which one is lost reports it, and ends this process.
                time.sleep(1.2 * self._heartbeat_timeout)
                if kind in _MAYBE_CONNECTION:
                    raise
                reason = masked(" ".join(str(error).split()))[:_MAX_SHOWN]
                raise Interrupted(f"the workers lost each other ({reason}); {ADVICE}") from None

    def advanced(self) -> None:
        """A step, which no worker can do alone, is over."""
        self._watchdog.step_ended()

    def _check_step(self) -> None:
        seconds = self._watchdog.overdue()
        if seconds is not None:
            self._abort(f"no step ended for {seconds:.0f} s: a worker hangs, or two are cut off from each other")

    def _send(self, peer: int, data: bytes) -> None:
        try:
            self._connections[peer].send(Kind.DATA, data)
        except OSError as error:
            self._lose(peer, error)

    def _send_last(self, kind: Kind, text: str = "") -> None:
        for connection in self._connections.values():
            connection.send_last(kind, text)

    def _receive(self, peer: int) -> bytes:
        inbox, left = self._inboxes[peer], -1.0
        while True:
            self._interruption.check()
            data = inbox.take(_POLL_SECONDS)
            if data is not None:
                return data
            if not inbox.is_alive():
                # It has announced an end that all have agreed to, and this worker has not.
                left = time.monotonic() if left < 0 else left
                if time.monotonic() - left > self._heartbeat_timeout:
                    self._lose(peer, ConnectionError("it has left"))

    def _lose(self, peer: int, error: OSError) -> None:
        silent = isinstance(error, TimeoutError)
        reason = f"nothing heard for {self._heartbeat_timeout:g} s" if silent else str(error.strerror or error)
        self._abort(f"worker {peer} is lost: {reason}")

    def _run_is_done(self) -> None:
        self._abort.disarm()
        self._heartbeat.stop()
        self._done.set()


def differing(name: str, worker: int, theirs: object, ours: object) -> str:
    """Return the start of an error's text: a worker's value that is not worker 0's."""
    theirs, ours = (masked(repr(value))[:_MAX_SHOWN] for value in (theirs, ours))
    return f"worker {worker} has {name} {theirs}, worker 0 has {ours}"


def _limits(worker: int) -> Limits:
    """Return what a worker accepts from its peers. Data may be a checkpoint, which worker 0 sends, and of which there
    are two copies once it is received; what worker 0 gets are lists of images, and images."""
    limits = {Kind.BEAT: 0, Kind.LEAVING: 0, Kind.ENDED: MAX_TEXT}
    if worker == 0:
        return {**limits, Kind.DATA: min(MAX_TO_WORKER_0, memory.limit() // 2)}
    return {**limits, Kind.DONE: 0, Kind.DATA: memory.limit() // 2}


def _malformed(worker: int, reason: object) -> Interrupted:
    return Interrupted(f"worker {worker} sent something unexpected: {reason}; {ADVICE}")


SINGLE = WorkerGroup(0, 1, {}, 0.0, Interruption())
"""The group of a run with one worker."""
_CONNECTION = {"AbortedError", "CancelledError", "DeadlineExceededError", "FailedPreconditionError", "UnavailableError"}
_MAYBE_CONNECTION = {"InternalError", "UnknownError"}
"""TensorFlow's exceptions, by name, as it is not imported here."""
