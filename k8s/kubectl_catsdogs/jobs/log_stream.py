"""A pod's log from its first line to its last, without a gap and without a repeated line.

The API gives a log as a stream that breaks off, and gives it again only from a whole second on. So each reading begins
a little before what was shown, and tells by time and text which lines were shown.
"""

import contextlib
import queue
import threading
import time
from collections import Counter, deque
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.api.watch import Message
from kubectl_catsdogs.base.contract import CONTAINER, Object, dig, name_of, status_of, terminated, worker_of
from kubectl_catsdogs.base.errors import Contradiction, Failure, NotFound, Unavailable
from kubectl_catsdogs.base.text import moment
from kubectl_catsdogs.jobs.job_log import of_worker

OVERLAP = timedelta(seconds=1)
"""Read again before the last whole second: standard output and error are stamped apart, not quite in order."""
ATTEMPTS = 10
"""Readings in a row that may fail without a line of progress, each a little later than the one before."""


class Line(NamedTuple):
    stamp: str
    """As the kubelet writes it, to the nanosecond."""
    text: str


def line_of(raw: str) -> Line | None:
    """None for one without a time, which no container wrote: an error of the kubelet, or the rest of a line."""
    stamp, space, text = raw.partition(" ")
    return Line(stamp, text) if space and moment(stamp) else None


class Tail:
    """The last lines shown: those that a new reading brings again."""

    def __init__(self) -> None:
        self._lines: deque[tuple[datetime, Line]] = deque()
        self._newest: datetime | None = None

    @property
    def since(self) -> datetime | None:
        """Where the next reading begins: a whole second. None before the first line."""
        return self._newest and self._newest.replace(microsecond=0) - OVERLAP

    @property
    def last(self) -> str:
        """The time of the last line; empty before it."""
        return self._lines[-1][1].stamp if self._lines else ""

    def add(self, line: Line) -> None:
        at = moment(line.stamp)
        assert at is not None
        self._lines.append((at, line))
        self._newest = max(at, self._newest or at)
        while self.since is not None and self._lines[0][0] < self.since:
            self._lines.popleft()

    def lines(self) -> list[Line]:
        return [line for at, line in self._lines if self.since is None or at >= self.since]


class Replay:
    """Tells, in a log that is read again from `tail.since`, the lines shown from the new ones."""

    def __init__(self, tail: Tail):
        self._shown = Counter(tail.lines())
        self._may_be_lost = bool(self._shown)

    def is_new(self, line: Line) -> bool:
        # Several lines may have one time and one text: as many of them are old as were shown.
        if self._shown[line] > 0:
            self._shown[line] -= 1
            self._may_be_lost = False
            return False
        return True

    def lost(self) -> bool:
        """After a new line, once: whether nothing of what was shown came again, so that lines may lie between."""
        lost, self._may_be_lost = self._may_be_lost, False
        return lost


def started(pod: Object) -> bool:
    """Whether its container has a log."""
    status = status_of(pod)
    state = status.get("state") or {}
    return "running" in state or "terminated" in state or bool(status.get("restartCount"))


def read(cluster: Cluster, pod: Object, out: "queue.Queue[Message]") -> None:
    """Starts a thread that puts Message("line", text) for each, ("note", text) for what is to be known of the log, and
    at last ("end", the pod's uid), or ("log", Failure) if it may not be read at all.
    """
    threading.Thread(target=_Reader(cluster, pod, out).run, daemon=True, name=f"log of {name_of(pod)}").start()


class _Reader:
    def __init__(self, cluster: Cluster, pod: Object, out: "queue.Queue[Message]"):
        self._cluster, self._out = cluster, out
        self._pod, self._uid = name_of(pod), str(dig(pod, "metadata", "uid"))
        self._worker = worker_of(pod)
        self._tail = Tail()
        self._restarts = 0
        """Of the container whose log is being read."""
        self._came = False
        """Whether the last reading brought anything."""
        self._kubelet_said: set[str] = set()

    def run(self) -> None:
        try:
            self._read_all()
        except (Unavailable, Contradiction) as failure:
            self._note(f"{failure}; lines may be missing")
        except Failure as failure:
            self._out.put(Message("log", failure))
        self._out.put(Message("end", self._uid))

    def _read_all(self) -> None:
        whole = True
        attempt = 0
        while True:
            pod = self._find()
            if pod is None:
                if not whole:
                    self._note("its pod is gone, and its log with it: lines may be missing at the end")
                return
            if int(status_of(pod).get("restartCount") or 0) > self._restarts:
                self._change_container(pod)
            # Of a container that has ended all is there, and a reading of it ends by itself.
            ended = terminated(pod) is not None
            self._came = False
            try:
                whole = self._read(follow=not ended)
            except NotFound:
                whole = False
            except Contradiction:
                # Its container is not there yet; between two restarts, for example.
                if attempt >= ATTEMPTS:
                    raise
                whole = False
            if ended and whole:
                return
            attempt = 0 if self._came else attempt + 1
            time.sleep(min(0.05 * 2**attempt, 5))

    def _find(self) -> Object | None:
        """The pod, and no other of its name."""
        with contextlib.suppress(NotFound):
            pod = self._cluster.get("pods", self._pod)
            if dig(pod, "metadata", "uid") == self._uid:
                return pod
        return None

    def _change_container(self, pod: Object) -> None:
        """Reads the end of the log of a container that the kubelet has restarted, which it keeps for one restart."""
        now = int(status_of(pod)["restartCount"])
        with contextlib.suppress(NotFound, Contradiction):
            for attempt in range(ATTEMPTS):
                if self._read(follow=False, previous=True):
                    break
                time.sleep(0.05 * 2**attempt)
        if now - self._restarts > 1:
            self._note(f"{now - self._restarts - 1} restarts were too fast to be read: their lines are missing")
        self._restarts = now
        self._tail = Tail()

    def _read(self, follow: bool, previous: bool = False) -> bool:
        """Reads from where it stands. Whether the log came to its end, rather than break off."""
        since = self._tail.since
        begin = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if since else ""
        replay = Replay(self._tail)
        try:
            for raw, complete in self._cluster.log(self._pod, CONTAINER, begin, follow, previous):
                # What has no end yet comes again; of a log that is followed, or that was cut off, it may be a part.
                if not complete and follow:
                    return False
                self._take(raw, replay)
        except ConnectionResetError:
            return False
        return True

    def _take(self, raw: str, replay: Replay) -> None:
        line = line_of(raw)
        self._came = self._came or line is not None
        if line is None:
            # Of a line so long that the runtime wrote it in parts, a later reading may give the last parts alone.
            if raw and not self._tail.last and raw not in self._kubelet_said:
                self._kubelet_said.add(raw)
                self._note(f"the kubelet says: {raw}")
            return
        if not replay.is_new(line):
            return
        if replay.lost():
            self._note(f"lines may be missing between {self._tail.last} and {line.stamp}: the kubelet has rotated it")
        self._tail.add(line)
        self._out.put(Message("line", of_worker(line.text, self._worker)))

    def _note(self, text: str) -> None:
        self._out.put(Message("note", f"log of {self._pod}: {text}"))
