"""The terminal: lines of text, and below them a live line that shows progress and is redrawn in place.

The cursor stays visible, and the live line never wraps: whatever ends the process, no terminal needs a reset.
"""

import os
import shutil
import textwrap
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

import click

from catsdogs.runtime.events import EpochEnded, Event, TrainingProgress, Validating
from catsdogs.runtime.formatting import duration_text, percent
from catsdogs.runtime.log import TextLines, text_of
from catsdogs.runtime.signals import ERASE_LINE

if TYPE_CHECKING:
    from rich.console import Console

MIN_BAR, MAX_BAR = 8, 40
"""Characters of the bar; where there is no room for the least, there is none."""


class Terminal(TextLines):
    """Text lines, and below them the live line."""

    interval = 0.1

    def __init__(self, stream: TextIO):
        super().__init__(stream)
        self._console: Console | None = None
        self._drawn = False
        self._estimate = Estimate()

    @staticmethod
    def fits(stream: TextIO) -> bool:
        """Return whether the stream is a terminal that can redraw a line."""
        return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")

    def show(self, event: Event, worker: int) -> None:
        if event.progress:
            self._draw(event)
            self._drawn = True
            return
        if isinstance(event, EpochEnded):
            self._estimate.set(event.remaining)
        # The next progress event draws it again. Not this one: its stage may be over.
        self.stream.write(ERASE_LINE if self._drawn else "")
        self._drawn = False
        print(self._line(event, worker), file=self.stream, flush=True)

    def _line(self, event: Event, worker: int) -> str:
        """Return time and text, wrapped between words, the further lines indented as far as the text."""
        clock = f"{datetime.now(UTC):%H:%M:%S} "
        width = max(40, shutil.get_terminal_size().columns - len(clock))
        lines = textwrap.wrap(text_of(event, worker), width, break_long_words=False, break_on_hyphens=False)
        text = ("\n" + " " * len(clock)).join(lines)
        if os.environ.get("NO_COLOR"):
            return clock + text
        return click.style(clock, dim=True) + (click.style(text, fg="yellow") if event.warning else text)

    def _draw(self, progress: Event) -> None:
        # Imported only now: it takes 0.1 s, and most commands show no progress.
        from rich.console import Console
        from rich.progress_bar import ProgressBar
        from rich.segment import Segment, Segments
        from rich.style import Style

        if self._console is None:
            self._console = Console(file=self.stream, highlight=False, markup=False, emoji=False)
        # The last column stays free: in some terminals, filling it moves the cursor to the next line.
        width = self._console.width - 1
        label, *details = fitting(live_parts(progress, self._estimate), width)
        if len(label) > width:
            label = label[: width - 1] + "…"
        detail = "".join(f"  {text}" for text in details)
        segments = [Segment(label, Style(bold=True))]
        room = width - len(label) - len(detail) - 2
        if room >= MIN_BAR:
            data = progress.data()
            bar = ProgressBar(total=data["total"] or 1, completed=data["done"], width=min(room, MAX_BAR))
            segments += [Segment("  "), *self._console.render_lines(bar, pad=False)[0]]
        self.stream.write(ERASE_LINE)
        self._console.print(Segments([*segments, Segment(detail)]), end="")
        self.stream.flush()


class Estimate:
    """How long the training still takes: as the last epoch's event says, in the first epoch from the time between the
    progress events of this process."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        self._end: float | None = None

    def set(self, remaining: float) -> None:
        self._end = time.monotonic() + remaining

    def remaining(self, share: float) -> float | None:
        """Return seconds until the training is done, if `share` of it is done now; None while that is unknown."""
        now = time.monotonic()
        if self._end is not None:
            return self._end - now
        if self._first is None:
            self._first = (now, share)
        then, share_then = self._first
        return (now - then) * (1 - share) / (share - share_then) if share > share_then else None


def live_parts(progress: Event, estimate: Estimate) -> list[tuple[int, str]]:
    """Return the texts of the live line in their order, each with its rank: the highest is left out first."""
    if isinstance(progress, TrainingProgress):
        remaining = estimate.remaining((progress.epoch - 1 + progress.done / progress.total) / progress.epochs)
        return [
            (0, f"epoch {progress.epoch}/{progress.epochs}"),
            (1, f"loss {progress.loss:.4f}"),
            (2, f"accuracy {percent(progress.accuracy)}"),
            (4, f"{progress.rate:.0f} images/s"),
            *([(3, f"{duration_text(remaining)} left")] if remaining is not None and remaining >= 1 else []),
        ]
    if isinstance(progress, Validating):
        return [(0, f"epoch {progress.epoch}/{progress.epochs}, validation"), (1, f"{progress.done}/{progress.total}")]
    return [(0, progress.sentence())]


def fitting(parts: list[tuple[int, str]], width: int) -> list[str]:
    """Return the texts that fit into `width` columns with two spaces between them, the first one in any case."""
    kept = list(parts)
    while len(kept) > 1 and sum(2 + len(text) for _, text in kept) - 2 > width:
        kept.remove(max(kept))
    return [text for _, text in kept]
