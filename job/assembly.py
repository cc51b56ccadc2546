"""The start of a run on several workers: nobody begins before all are there and agree on what is to be done."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable

from job import __version__
from job.errors import Contradiction, JobError, Unavailable
from job.events import Log, duration_text
from job.gang import ALONE, HELLO, REFUSED, START, WAITING, Gang
from job.interruption import Interruption
from job.links import MOST_FROM_STRANGERS, Link, listen
from job.settings import Settings

POLL_SECONDS = 0.5
SAY_SECONDS = 10.0
MOST_NAMED = 5


def assemble(settings: Settings, log: Log, interruption: Interruption, published: Callable[[], bool]) -> Gang | None:
    """Waits until all workers are there; None if the run is `published` meanwhile, as when this worker was started
    again at the end of it.

    Raises Unavailable after the settings' worker_timeout, naming who did not come, Contradiction if one was told
    something else, Interrupted.
    """
    if settings.workers == 1:
        return ALONE
    if "TF_CONFIG" in os.environ:
        raise Contradiction("TF_CONFIG is set, and so is --workers, which says the same; unset TF_CONFIG")
    assembly = _Assembly(settings, log, interruption)
    links = assembly.come(published) if settings.worker_index else assembly.await_all()
    if links is None:
        return None
    return Gang(settings.worker_index, settings.workers, links, settings.heartbeat_timeout, interruption)


def place_of(address: str) -> tuple[str, int]:
    """Host and port for what goes beside TensorFlow: the port after TensorFlow's."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) + 1


class _Assembly:
    def __init__(self, settings: Settings, log: Log, interruption: Interruption):
        self.settings, self.log, self.interruption = settings, log, interruption
        self.told = {
            "version": __version__, "workers": settings.workers, "run_id": settings.run_id,
            **settings.model_settings(),
        }  # fmt: skip
        self.began = self.said = time.monotonic()
        self.missing: list[int] = [0] if settings.worker_index else list(range(1, settings.workers))

    def await_all(self) -> dict[int, Link]:
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
        self.log.say("assembled", workers=self.settings.workers, seconds=time.monotonic() - self.began)
        return links

    def _tell(self, links: dict[int, Link]) -> None:
        """Those who are there whom they wait for; thereby it is noticed who has gone again."""
        self.missing = [worker for worker in range(1, self.settings.workers) if worker not in links]
        if not self.missing:
            return
        self._wait()
        for worker, link in list(links.items()):
            try:
                link.send(WAITING, json.dumps(self.missing).encode())
            except OSError:
                links.pop(worker).close()

    def _listening(self) -> socket.socket:
        port = place_of(self.settings.addresses[0])[1]
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
            kind, body = link.receive(MOST_FROM_STRANGERS)
            document = json.loads(body) if kind == HELLO else {}
            worker, told = int(document["worker"]), dict(document["told"])
        except (OSError, ValueError, KeyError, TypeError):
            link.close()
            return
        for name, ours in json.loads(json.dumps(self.told)).items():
            if told.get(name) != ours:
                text = f"worker {worker} was told {name} {told.get(name)!r}, worker 0 {ours!r}"
                text += "; give all workers the same options"
                for other in [link, *links.values()]:
                    other.send_last(REFUSED, text.encode())
                link.close()
                raise Contradiction(text)
        if not 1 <= worker < self.settings.workers:
            link.close()
            return
        if worker in links:
            links[worker].close()
        links[worker] = Link(connection, self.settings.heartbeat_timeout)

    def come(self, published: Callable[[], bool]) -> dict[int, Link] | None:
        host, port = place_of(self.settings.addresses[0])
        hello = json.dumps({"worker": self.settings.worker_index, "told": self.told}).encode()
        asked = time.monotonic()
        while True:
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                connection = stack.enter_context(socket.create_connection((host, port), timeout=2.0))
                link = Link(connection, self.settings.heartbeat_timeout)
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
                raise Contradiction(body.decode())
            if kind == WAITING:
                self.missing = json.loads(body)
                self._wait()

    def _wait(self, problem: str = "") -> None:
        """Says now and then whom it waits for. Raises Unavailable when it has waited long enough, Interrupted."""
        self.interruption.check()
        now = time.monotonic()
        left = self.settings.worker_timeout - (now - self.began)
        names = problem or self._names()
        if left <= 0:
            waited = duration_text(self.settings.worker_timeout)
            raise Unavailable(f"{names}: not there within {waited}; look at why, or raise --worker-timeout")
        if now - self.said > SAY_SECONDS or self.said == self.began:
            self.said = now
            self.log.say("assembling", whom=names, left=left)

    def _names(self) -> str:
        named = [f"worker {worker} ({self.settings.addresses[worker]})" for worker in self.missing[:MOST_NAMED]]
        more = len(self.missing) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")
