"""The workers of one run, in touch beside TensorFlow: they start together, tell each other, and end together.

Worker 0 listens on the port after its own for TensorFlow, and each other worker holds one connection to it. Over
it go heartbeats, as TensorFlow's collectives may wait for ever for a worker that is gone, and what is not a gradient:
settings to compare, what was fetched, checkpoints, predictions. A worker alone has none of this.
"""

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any

from catsdogs.runtime.errors import ConfigError, Interrupted, printable
from catsdogs.runtime.signals import Interruption
from catsdogs.workers.transport import Link, packed, unpacked

HELLO, WAITING, REFUSED, START, BEAT, DATA, LEAVING, ENDED, DONE = (bytes([kind]) for kind in b"hwrsbdlef")
MAX_BETWEEN_BEATS = 5.0
LONGEST_STEPS = 2
"""So many times as long as the longest step so far, which built the graph, another may take beyond a heartbeat's
limit."""
FAREWELL_SECONDS = 5.0


class WorkerGroup:
    """All workers, seen from one. `links` leads from worker 0 to every other, from any other to worker 0."""

    def __init__(self, worker: int, size: int, links: dict[int, Link], heartbeat: float, interruption: Interruption):
        self.worker, self.size, self.heartbeat = worker, size, heartbeat
        self._interruption = interruption
        self._links = links
        self._inbox: dict[int, SimpleQueue[bytes]] = {peer: SimpleQueue() for peer in self._links}
        self._done = threading.Event()
        self._needed = True
        self._longest_step = 0.0
        self._step_ended, self._step_due = 0.0, math.inf
        self._ending = threading.Lock()
        # While TensorFlow is imported, 2 leads elsewhere.
        self._stderr = os.dup(2) if self._links else 2
        self._listeners = [
            threading.Thread(target=self._listen, args=(peer, link), name=f"worker {peer}", daemon=True)
            for peer, link in self._links.items()
        ]
        for listener in self._listeners:
            listener.start()
        if self._links:
            threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def __enter__(self) -> "WorkerGroup":
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """An exception that ends this worker ends the others, which are told why."""
        needed, self._needed = self._needed, False
        if error is not None and needed:
            code = getattr(error, "exit_code", 1)
            text = f"worker {self.worker} ended with exit code {code}: {error}"
            for link in self._links.values():
                link.send_last(ENDED, text.encode())
        for link in self._links.values():
            link.close()

    def gather(self, data: bytes) -> list[bytes]:
        """What each worker gives, by worker; every one must call it, and gets the same. Raises Interrupted."""
        if not self._links:
            return [data]
        if self.worker:
            self._send(0, DATA, data)
            return unpacked(self._next(0))
        parts = [data, *(self._next(peer) for peer in sorted(self._links))]
        for peer in self._links:
            self._send(peer, DATA, packed(parts))
        return parts

    def gathered(self, value: Any) -> list[Any]:
        """The same for anything that JSON can hold."""
        if not self._links:
            return [value]
        return [json.loads(part) for part in self.gather(json.dumps(value).encode())]

    def agree(self, name: str, value: Any) -> None:
        """Raises ConfigError, in every worker, unless all give the same value."""
        for worker, theirs in enumerate(values := self.gathered(value)):
            if theirs != values[0]:
                self.leave()
                raise ConfigError(
                    f"worker {worker} has {name} {theirs!r}, worker 0 {values[0]!r}; give all workers the same"
                )

    def leave(self) -> None:
        """All have agreed to end here; whoever does so first must not be taken for lost by one that is not so far."""
        self.let_go()
        for link in self._links.values():
            link.send_last(LEAVING, b"")

    def let_go(self) -> None:
        """From here on this worker needs no other; that one of them ends does not matter to it."""
        self._needed = False

    def finish(self) -> None:
        """The others' end waits for worker 0's: as long as it might need them once more, they are there."""
        if self.worker == 0:
            for link in self._links.values():
                link.send_last(DONE, b"")
            # Until they have closed: a connection that is closed with something unread takes back what was sent.
            for listener in self._listeners:
                listener.join(FAREWELL_SECONDS / self.size)
        elif self._links:
            while not self._done.wait(0.2):
                self._interruption.check()

    @contextlib.contextmanager
    def watched(self, first_step: float) -> Iterator[None]:
        """Within it a failure of TensorFlow's collectives is a lost worker. Raises Interrupted.

        So is a step that is not over in time, the first one within so many seconds: a worker that hangs in one thread
        goes on with its heartbeats, and of a cut between two others worker 0 hears nothing.
        """
        self._step_ended, self._step_due = time.monotonic(), time.monotonic() + first_step
        try:
            yield
        except Exception as error:
            kind = type(error).__name__
            if not self._links or kind not in _CONNECTION | _MAYBE_CONNECTION:
                raise
            # Whoever knows better which worker it was says so meanwhile, and ends the process.
            time.sleep(1.2 * self.heartbeat)
            if kind in _MAYBE_CONNECTION:
                raise
            reason = " ".join(str(error).split())[:200]
            raise Interrupted(f"the workers lost each other ({reason}); {_ADVICE}") from None
        finally:
            self._step_due = math.inf

    def advanced(self) -> None:
        """A step is over, which no worker can take alone."""
        now = time.monotonic()
        self._longest_step = max(self._longest_step, now - self._step_ended)
        self._step_ended, self._step_due = now, now + self.heartbeat + LONGEST_STEPS * self._longest_step

    def _next(self, peer: int) -> bytes:
        while True:
            self._interruption.check()
            with contextlib.suppress(Empty):
                return self._inbox[peer].get(timeout=0.2)

    def _send(self, peer: int, kind: bytes, body: bytes) -> None:
        try:
            self._links[peer].send(kind, body)
        except OSError as error:
            self._lose(peer, error)

    def _beat(self) -> None:
        while not self._done.is_set():
            for link in self._links.values():
                link.beat(BEAT)
            time.sleep(min(self.heartbeat / 4, MAX_BETWEEN_BEATS))
            if time.monotonic() > self._step_due:
                took = time.monotonic() - self._step_ended
                self._end(f"no step ended for {took:.0f} s: a worker hangs, or two are cut off from each other")

    def _listen(self, peer: int, link: Link) -> None:
        try:
            while True:
                kind, body = link.receive()
                if kind == DATA:
                    self._inbox[peer].put(body)
                elif kind == LEAVING:
                    return
                elif kind == ENDED:
                    self._end(body.decode())
                elif kind == DONE:
                    self._done.set()
        except OSError as error:
            self._lose(peer, error)

    def _lose(self, peer: int, error: OSError) -> None:
        silent = isinstance(error, TimeoutError)
        reason = f"nothing heard for {self.heartbeat:g} s" if silent else str(error.strerror or error)
        self._end(f"worker {peer} is lost: {reason}")

    def _end(self, text: str) -> None:
        """Ends the process, whatever its other threads wait for, and with it the other workers."""
        if not self._needed or self._done.is_set():
            return
        # Never released: the first to come here has the last word.
        self._ending.acquire()
        for link in self._links.values():
            link.send_last(ENDED, text.encode())
        own = f"worker {self.worker}: " if self.worker else ""
        os.write(self._stderr, f"catsdogs: {own}{printable(text)}; {_ADVICE}\n".encode())
        os._exit(Interrupted.exit_code)


SINGLE = WorkerGroup(0, 1, {}, 0.0, Interruption())
"""The only worker of a run: everybody is there and agrees at once."""
_ADVICE = "the same command goes on from the last checkpoint"
_CONNECTION = {"AbortedError", "CancelledError", "DeadlineExceededError", "FailedPreconditionError", "UnavailableError"}
_MAYBE_CONNECTION = {"InternalError", "UnknownError"}
"""TensorFlow's exceptions, by name, as it is not imported here."""
