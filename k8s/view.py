"""What `follow` shows: lines for files and pipes; on a terminal also one line that stays below and tells how far."""

import shutil
import sys
import time
from typing import TextIO

from k8s.said import PROGRESS, Progress
from k8s.text import clean, duration

BAR = 24
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


def bar(progress: Progress, elapsed: float = 0.0) -> str:
    """'epoch 3/30  [########----] step 40/100  accuracy 71.2 %, best validation 70.1 % (epoch 2), about 4m10s left'.

    `elapsed` are the seconds since the last line.
    """
    if progress.waiting:
        return clean(f"waiting for storage: {progress.waiting}")
    if progress.awaited:
        return clean(f"waiting for {progress.awaited}")
    done, total = progress.done, progress.total
    if progress.stage in ("training", "validating"):
        unit = "validation step" if progress.stage == "validating" else "step"
        parts = [f"epoch {progress.epoch}/{progress.epochs}", f"{_bar(done, total)} {unit} {done}/{total}"]
    elif progress.stage:
        parts = [progress.stage, f"{_bar(done, total)} {done}/{total}"]
    elif 0 < progress.epochs_done < progress.epochs:
        # The epochs are too short for a line of their own progress.
        parts = [f"epoch {progress.epochs_done}/{progress.epochs}", _bar(progress.epochs_done, progress.epochs)]
    else:
        parts = []
    figures = []
    if progress.accuracy is not None:
        figures.append(f"accuracy {100 * progress.accuracy:.1f} %")
    if progress.best is not None:
        figures.append(f"best validation {100 * progress.best:.1f} % (epoch {progress.best_epoch})")
    if progress.remaining is not None and progress.epochs_done < progress.epochs:
        figures.append(f"about {duration(max(0.0, progress.remaining - elapsed))} left")
    return "  ".join([*parts, ", ".join(figures)] if figures else parts)


def _bar(done: int, total: int) -> str:
    filled = round(BAR * min(1.0, done / total)) if total else 0
    return f"[{'#' * filled}{'-' * (BAR - filled)}]"
