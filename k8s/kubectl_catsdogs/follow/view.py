"""What `follow` writes: lines for files and pipes; on a terminal also a progress line below them."""

import shutil
import sys
import time
from typing import TextIO

from kubectl_catsdogs.base.text import clean
from kubectl_catsdogs.jobs.job_log import LogLine, StageProgress, event_of, of_worker, stamp_of, text_of
from kubectl_catsdogs.jobs.progress import Progress, bar

ERASED = "\r\033[2K"


class View:
    """Writes the log to standard output, its bytes unchanged, and everything else to standard error.

    Events without a text, which the log has for programs, are left out.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None):
        self._out, self._err = out or sys.stdout, err or sys.stderr

    def line(self, line: LogLine) -> None:
        """Write a line of the log. It may become visible only after `flush`."""
        if text_of(line.raw) is not None:
            shown = of_worker(line.raw, line.worker)
            self._out.buffer.write(shown.encode(errors="surrogateescape") + b"\n")

    def report(self, text: str) -> None:
        """Write a line that is not of the log."""
        self._out.flush()
        print(f"-- {clean(text)}", file=self._err, flush=True)

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        """Leave the cursor at the beginning of an empty line."""
        self._out.flush()


class LiveView(View):
    """Writes for a terminal: escapes control characters, shows events as text, and progress only in the bar."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None):
        super().__init__(out, err)
        self._progress = Progress()
        self._bar = ""
        self._last_line = 0.0
        self._progress_stamp: str | None = None
        """How the line of text begins that repeats the last event, if that was progress."""

    def line(self, line: LogLine) -> None:
        self._last_line = time.monotonic()
        self._progress.take(line.raw)
        event = event_of(line.raw)
        repeats_progress = self._progress_stamp is not None and line.raw.startswith(self._progress_stamp)
        self._progress_stamp = stamp_of(event) or None if isinstance(event, StageProgress) else None
        text = None if repeats_progress or isinstance(event, StageProgress) else text_of(line.raw)
        if text is not None:
            self._erase()
            shown = of_worker(text, event.worker or line.worker if event else line.worker)
            print(clean(shown.encode(errors="surrogateescape").decode(errors="backslashreplace")), file=self._out)

    def report(self, text: str) -> None:
        self._erase()
        super().report(text)

    def flush(self) -> None:
        """Draw the bar."""
        width = shutil.get_terminal_size().columns - 1
        drawn = bar(self._progress, time.monotonic() - self._last_line)[:width]
        if drawn != self._bar:
            self._erase()
            self._out.write(drawn)
            self._bar = drawn
        self._out.flush()

    def close(self) -> None:
        self._erase()
        self._out.flush()

    def _erase(self) -> None:
        if self._bar:
            self._out.write(ERASED)
            self._bar = ""
