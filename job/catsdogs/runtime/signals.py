"""SIGTERM and SIGINT: remembered when they come, acted upon at the next safe point.

Imports nothing slow, because it is installed before everything else: a pod can be told to stop
while TensorFlow is still being imported.
"""

import os
import signal
import threading
from types import FrameType
from typing import NoReturn

from catsdogs.runtime.errors import Interrupted

MAX_SECONDS = 9.0
"""From the signal to the end, should no safe point come, as when the network stalls. What is on the volume
by then is whole, as after a kill; Kubernetes' grace period is 30 seconds by default."""


class Interruption:
    """Polled between batches, images and artifacts; `check` ends the job once a signal has come."""

    signal_name: str | None = None
    advice = "progress is saved; the same command goes on from there"
    """What whoever interrupted may rely on; commands that save none say so instead."""

    def install(self) -> None:
        """From here on the first signal is remembered, and the second ends the process at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def check(self) -> None:
        """Raises Interrupted if a signal has come."""
        if self.signal_name is not None:
            self.end()

    def end(self) -> NoReturn:
        """Raises Interrupted: a signal has come, to this process or to another worker of its run."""
        raise Interrupted(f"{self.signal_name or 'a signal to another worker'} received: {self.advice}")

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_name is not None:
            self._end("received again: ended at once")
        self.signal_name = signal.Signals(number).name
        timer = threading.Timer(MAX_SECONDS, self._end, [f"received: no safe point came in {MAX_SECONDS:.0f} s"])
        timer.daemon = True
        timer.start()

    def _end(self, what: str) -> None:
        line = f"catsdogs: {self.signal_name} {what}; the same command goes on from the last checkpoint\n"
        # os.write, since print is not reentrant and a handler may interrupt a print.
        os.write(2, line.encode())
        os._exit(Interrupted.exit_code)
