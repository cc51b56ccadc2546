"""SIGTERM and SIGINT: remembered when they come, acted upon at the next safe point.

Imports nothing slow, because it is installed before everything else: a pod can be told to stop
while TensorFlow is still being imported.
"""

import os
import signal
from types import FrameType

from job.errors import Interrupted


class Interruption:
    """Polled between batches, images and artifacts; `check` ends the job once a signal has come."""

    signal_name: str | None = None

    def install(self) -> None:
        """From here on the first signal is remembered, and the second ends the process at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_name is not None:
            os._exit(Interrupted.exit_code)
        self.signal_name = signal.Signals(number).name
        # os.write, since print is not reentrant and a handler may interrupt a print.
        os.write(2, f"{self.signal_name}: stopping at the next safe point; a second one ends at once\n".encode())

    def check(self) -> None:
        """Raises Interrupted if a signal has come."""
        if self.signal_name is not None:
            raise Interrupted(f"{self.signal_name} received: progress is saved; the same command goes on from there")
