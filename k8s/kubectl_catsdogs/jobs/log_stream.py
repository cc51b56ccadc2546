"""Reads a pod's log from its first line to its last, without gaps and without repeated lines.

The API serves a log as a stream that may break off, and serves it again only from a whole second on. So each reading
begins a little before the last line that was read, and recognises the lines it has read before by time and text.
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
from kubectl_catsdogs.base.chart import CONTAINER, status_of, terminated, worker_of
from kubectl_catsdogs.base.errors import ConfigError, Failure, NotFound, Unavailable
from kubectl_catsdogs.base.objects import Object, name_of, uid_of
from kubectl_catsdogs.base.text import moment, plural
from kubectl_catsdogs.jobs.job_log import LogLine

OVERLAP = timedelta(seconds=1)
"""Read again before the last whole second: the times of standard output and error are not quite in order."""
ATTEMPTS = 10
"""Readings in a row that may fail without progress, each a little later than the one before."""


class Line(NamedTuple):
    stamp: str
    """The kubelet's, to the nanosecond."""
    text: str


def line_of(raw: str) -> Line | None:
    """Parse a line; None without a time, which no container wrote: an error of the kubelet, or the rest of a line."""
    stamp, space, text = raw.partition(" ")
    return Line(stamp, text) if space and moment(stamp) else None


class Tail:
    """The last lines read: those that the next reading repeats."""

    def __init__(self) -> None:
        self._lines: deque[tuple[datetime, Line]] = deque()
        self._newest: datetime | None = None

    @property
    def since(self) -> datetime | None:
        """Where the next reading begins: a whole second. None before the first line."""
        return self._newest and self._newest.replace(microsecond=0) - OVERLAP

    @property
    def last(self) -> str:
        """The time of the last line; empty before the first."""
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
    """Distinguishes new lines from repeated ones in a log that is read again from `tail.since`."""

    def __init__(self, tail: Tail):
        self._repeated = Counter(tail.lines())
        self._gap_possible = bool(self._repeated)

    def is_new(self, line: Line) -> bool:
        # Several lines may have the same time and text: as many of them are repeated as were read.
        if self._repeated[line] > 0:
            self._repeated[line] -= 1
            self._gap_possible = False
            return False
        return True

    def gap(self) -> bool:
        """Return, once, after a new line, whether no line was repeated, so that lines may be missing in between."""
        gap, self._gap_possible = self._gap_possible, False
        return gap


def started(pod: Object) -> bool:
    """Return whether the pod's container has a log."""
    status = status_of(pod)
    state = status.get("state") or {}
    return "running" in state or "terminated" in state or bool(status.get("restartCount"))


def read(cluster: Cluster, pod: Object, out: "queue.Queue[Message]") -> None:
    """Start a thread that puts Message("line", LogLine) for each line, Message("note", text) for what to know about the
    log, and finally Message("end", the pod's uid); Message("log", Failure) before it if the log may not be read.
    """
    threading.Thread(target=_Reader(cluster, pod, out).run, daemon=True, name=f"log of {name_of(pod)}").start()


class _Reader:
    def __init__(self, cluster: Cluster, pod: Object, out: "queue.Queue[Message]"):
        self._cluster, self._out = cluster, out
        self._pod, self._uid = name_of(pod), uid_of(pod)
        self._worker = worker_of(pod)
        self._tail = Tail()
        self._restarts = 0
        """Of the container whose log is being read."""
        self._progress = False
        """Whether the last reading returned any line."""
        self._kubelet_errors: set[str] = set()

    def run(self) -> None:
        try:
            self._read_all()
        except (Unavailable, ConfigError) as failure:
            self._note(f"{failure}; lines may be missing")
        except Failure as failure:
            self._out.put(Message("log", failure))
        self._out.put(Message("end", self._uid))

    def _read_all(self) -> None:
        whole = True
        attempt = 0
        while True:
            pod = self._current_pod()
            if pod is None:
                if not whole:
                    self._note("its pod is gone, and its log with it: lines may be missing at the end")
                return
            if int(status_of(pod).get("restartCount") or 0) > self._restarts:
                self._change_container(pod)
            # The log of a container that has ended is complete, and reading it ends by itself.
            ended = terminated(pod) is not None
            self._progress = False
            try:
                whole = self._read(follow=not ended)
            except NotFound:
                whole = False
            except ConfigError:
                # The container does not exist yet, as between two restarts.
                if attempt >= ATTEMPTS:
                    raise
                whole = False
            if ended and whole:
                return
            attempt = 0 if self._progress else attempt + 1
            time.sleep(min(0.05 * 2**attempt, 5))

    def _current_pod(self) -> Object | None:
        """Return the pod as it is now; None if it is gone, even if another one has its name."""
        with contextlib.suppress(NotFound):
            pod = self._cluster.get("pods", self._pod)
            if uid_of(pod) == self._uid:
                return pod
        return None

    def _change_container(self, pod: Object) -> None:
        """Read the end of the log of a restarted container, which the kubelet keeps until the next restart."""
        restarts = int(status_of(pod)["restartCount"])
        with contextlib.suppress(NotFound, ConfigError):
            for attempt in range(ATTEMPTS):
                if self._read(follow=False, previous=True):
                    break
                time.sleep(0.05 * 2**attempt)
        if missed := restarts - self._restarts - 1:
            verb = "was" if missed == 1 else "were"
            self._note(f"{plural(missed, 'restart')} {verb} too fast for the log to be read: its lines are missing")
        self._restarts = restarts
        self._tail = Tail()

    def _read(self, follow: bool, previous: bool = False) -> bool:
        """Read on from the last line. Return whether the log came to its end rather than broke off."""
        since = self._tail.since
        begin = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if since else ""
        replay = Replay(self._tail)
        try:
            for raw, complete in self._cluster.log(self._pod, CONTAINER, begin, follow, previous):
                # An incomplete line of a log that is followed, or was cut, may be a part; it comes again.
                if not complete and follow:
                    return False
                self._take(raw, replay)
        except ConnectionResetError:
            return False
        return True

    def _take(self, raw: str, replay: Replay) -> None:
        line = line_of(raw)
        self._progress = self._progress or line is not None
        if line is None:
            # Of a line so long that the runtime wrote it in parts, a later reading may return only the last parts.
            if raw and not self._tail.last and raw not in self._kubelet_errors:
                self._kubelet_errors.add(raw)
                self._note(f"the kubelet says: {raw}")
            return
        if not replay.is_new(line):
            return
        if replay.gap():
            self._note(f"lines may be missing between {self._tail.last} and {line.stamp}: the kubelet has rotated it")
        self._tail.add(line)
        self._out.put(Message("line", LogLine(self._worker, line.text)))

    def _note(self, text: str) -> None:
        self._out.put(Message("note", f"log of {self._pod}: {text}"))
