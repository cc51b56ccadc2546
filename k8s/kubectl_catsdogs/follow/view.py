"""What `follow` shows: lines for files and pipes; on a terminal also one line that stays below and tells how far."""

import shutil
import sys
import time
from typing import TextIO

from kubectl_catsdogs.base.text import clean
from kubectl_catsdogs.jobs.job_log import PROGRESS
from kubectl_catsdogs.jobs.progress import Progress, bar

ERASED = "\r\033[2K"


class View:
    """The pod's lines on standard output, byte by byte as they are; everything else on standard error."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None):
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self.progress = Progress()

    def line(self, text: str) -> None:
        """A line of the log, decoded with surrogateescape. It may be seen only after `flush`."""
        self._out.buffer.write(text.encode(errors="surrogateescape") + b"\n")

    def report(self, text: str) -> None:
        """Something that is not of the log."""
        self._out.flush()
        print(f"-- {clean(text)}", file=self._err, flush=True)

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        """Leaves the cursor at the beginning of an empty line."""
        self._out.flush()


class LiveView(View):
    """The same on a terminal, which must not obey what is in a log, and where lines of progress only move the bar."""

    _shown = ""
    _last_line = 0.0

    def line(self, text: str) -> None:
        self._last_line = time.monotonic()
        if self.progress.take(text) not in PROGRESS:
            self._erase()
            print(clean(text.encode(errors="surrogateescape").decode(errors="backslashreplace")), file=self._out)

    def report(self, text: str) -> None:
        self._erase()
        super().report(text)

    def flush(self) -> None:
        """Draws the bar as it is now."""
        width = shutil.get_terminal_size().columns - 1
        drawn = bar(self.progress, time.monotonic() - self._last_line)[:width]
        if drawn != self._shown:
            self._erase()
            self._out.write(drawn)
            self._shown = drawn
        self._out.flush()

    def close(self) -> None:
        self._erase()
        self._out.flush()

    def _erase(self) -> None:
        if self._shown:
            self._out.write(ERASED)
            self._shown = ""
