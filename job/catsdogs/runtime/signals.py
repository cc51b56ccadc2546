"""SIGTERM and SIGINT: remembered when they arrive, acted upon at the next safe point.

Imports nothing slow, because it is installed before everything else: a pod may be stopped while TensorFlow is still
being imported.
"""

import os
import signal
import threading
from types import FrameType
from typing import NoReturn

from catsdogs.runtime.errors import Interrupted

MAX_SECONDS = 9.0
"""From the signal to the end of the process if no safe point is reached, as when the network stalls. What is on the
volume by then is intact, as after a kill. Kubernetes' default grace period is 30 seconds."""
SIGNALS = frozenset([signal.SIGTERM, signal.SIGINT])
ERASE_LINE = "\r\033[2K"


class Interruption:
    """Polled between batches, images and artifacts; `check` ends the job once a signal has arrived."""

    signal_name: str | None = None
    """The signal that has arrived, or "none" once something else ends the job."""
    _lost: str | None = None
    advice = "progress is saved; the same command goes on from there"
    """What the user can rely on. Commands that save no progress replace it."""

    def install(self) -> None:
        """From now on, remember the first signal; the second ends the process at once."""
        for number in SIGNALS:
            signal.signal(number, self._receive)
        # A process that executed this program may have held them back until now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def check(self) -> None:
        """Raise Interrupted if a signal has arrived."""
        if self.signal_name is not None:
            self.end()

    def end(self) -> NoReturn:
        """Raise Interrupted: this process or another worker of its run has received a signal."""
        if self._lost is not None:
            raise Interrupted(f"{self._lost}: {self.advice}")
        raise Interrupted(f"{self.signal_name or 'a signal to another worker'} received: {self.advice}")

    def lose(self, what: str) -> None:
        """End the job as a signal does, from any thread, because something that it needs is gone."""
        if self.signal_name is None:
            self._lost = what
            self.signal_name = "none"
            self._limit(f"{what}: no safe point came in {MAX_SECONDS:.0f} s")

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_name is not None:
            self._end(f"{signal.Signals(number).name} received again: ended at once")
        self.signal_name = signal.Signals(number).name
        self._limit(f"{self.signal_name} received: no safe point came in {MAX_SECONDS:.0f} s")

    def _limit(self, reason: str) -> None:
        timer = threading.Timer(MAX_SECONDS, self._end, [reason])
        timer.daemon = True
        timer.start()

    def _end(self, reason: str) -> None:
        erase_live_line()
        line = f"catsdogs: {reason}; the same command goes on from the last checkpoint\n"
        # os.write, since print is not reentrant and a handler may interrupt a print.
        os.write(2, line.encode())
        os._exit(Interrupted.exit_code)


def erase_live_line() -> None:
    """Erase the line of a terminal on standard output that `console.Terminal` may have left unfinished. Reentrant."""
    if os.isatty(1) and os.environ.get("TERM") != "dumb":
        os.write(1, ERASE_LINE.encode())
