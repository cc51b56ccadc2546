"""The time that a training step may take, which no worker can do alone."""

import contextlib
import math
import time
from collections.abc import Iterator

STEP_FACTOR = 2
"""A step may take this many times the longest step so far, in addition to the heartbeat's timeout. The longest is the
first one, which builds the graph."""


class StepWatchdog:
    """Measures the steps of a training. One thread reports them, another asks whether one is overdue.

    A worker with one hanging thread still sends heartbeats, and worker 0 does not notice two others that are cut off
    from each other: in both cases no step ends.
    """

    def __init__(self, heartbeat_timeout: float):
        self._heartbeat_timeout = heartbeat_timeout
        self._longest = 0.0
        self._ended, self._due = 0.0, math.inf

    @contextlib.contextmanager
    def watching(self, first_step: float) -> Iterator[None]:
        """Within it steps are due, the first one within `first_step` seconds."""
        self._ended, self._due = time.monotonic(), time.monotonic() + first_step
        try:
            yield
        finally:
            self._due = math.inf

    def step_ended(self) -> None:
        now = time.monotonic()
        self._longest = max(self._longest, now - self._ended)
        self._ended, self._due = now, now + self._heartbeat_timeout + STEP_FACTOR * self._longest

    def overdue(self) -> float | None:
        """Return the seconds since the last step ended if the next one is overdue, else None."""
        now = time.monotonic()
        return now - self._ended if now > self._due else None
