"""The terminal: lines of text, and below them a live line that shows progress and is redrawn in place.

The cursor stays visible, and the live line never wraps: whatever ends the process, no terminal needs a reset.
"""

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

import click

from catsdogs.runtime.events import Event, TrainingProgress, Validating
from catsdogs.runtime.formatting import duration_text, percent
from catsdogs.runtime.log import TextLines, text_of
from catsdogs.runtime.signals import ERASE_LINE

if TYPE_CHECKING:
    from rich.console import Console

LEAST_BAR, MOST_BAR = 8, 40
"""Characters of the bar; where there is no room for the least, there is none."""


class Terminal(TextLines):
    """Text lines, and below them the live line, until its stage is complete."""

    interval = 0.1

    def __init__(self, stream: TextIO):
        super().__init__(stream)
        self._console: Console | None = None
        self._progress: Event | None = None
        self._estimate = Estimate()

    @staticmethod
    def fits(stream: TextIO) -> bool:
        """Return whether the stream is a terminal that can redraw a line."""
        return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")

    def show(self, event: Event, worker: int) -> None:
        if event.progress:
            self._progress = event
            self._draw()
            return
        if self._progress is not None:
            self.stream.write(ERASE_LINE)
        print(self._line(event, worker), file=self.stream, flush=True)
        if self._progress is not None:
            data = self._progress.data()
            if data["done"] < data["total"]:
                self._draw()
            else:
                self._progress = None

    def _line(self, event: Event, worker: int) -> str:
        clock, text = f"{datetime.now(UTC):%H:%M:%S}", text_of(event, worker)
        if os.environ.get("NO_COLOR"):
            return f"{clock} {text}"
        return f"{click.style(clock, dim=True)} {click.style(text, fg='yellow') if event.warning else text}"

    def _draw(self) -> None:
        # Imported only now: it takes 0.1 s, and most commands show no progress.
        from rich.console import Console
        from rich.progress_bar import ProgressBar
        from rich.segment import Segments
        from rich.text import Text

        assert self._progress is not None
        if self._console is None:
            self._console = Console(file=self.stream, highlight=False, markup=False, emoji=False)
        console, data = self._console, self._progress.data()
        # The last column stays free: in some terminals the cursor wraps once it is filled.
        width = console.width - 1
        parts = live_parts(self._progress, self._estimate)
        label, *details = fitting(parts, width)
        line = Text(label, style="bold", no_wrap=True, end="")
        line.truncate(width, overflow="ellipsis")
        room = width - line.cell_len - sum(2 + len(detail) for detail in details) - 2
        self.stream.write(ERASE_LINE)
        console.print(line, end="")
        if room >= LEAST_BAR:
            bar = ProgressBar(total=data["total"] or 1, completed=data["done"], width=min(room, MOST_BAR))
            [segments] = console.render_lines(bar, pad=False)
            console.print("  ", Segments(segments), sep="", end="")
        console.print("".join(f"  {detail}" for detail in details), end="", no_wrap=True, overflow="crop")
        self.stream.flush()


class Estimate:
    """How long the training still takes, from the time that passed between the progress events of this process."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def remaining(self, share: float) -> float | None:
        """Return seconds until the whole training is done, `share` of it being done now; None if not yet known."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, share)
        began, share_then = self._first
        if share - share_then <= 0:
            return None
        return (now - began) * (1 - share) / (share - share_then)


def live_parts(progress: Event, estimate: Estimate) -> list[tuple[int, str]]:
    """Return the texts of the live line in their order, each with its rank: the highest is left out first."""
    if isinstance(progress, TrainingProgress):
        remaining = estimate.remaining((progress.epoch - 1 + progress.done / progress.total) / progress.epochs)
        parts = [
            (0, f"epoch {progress.epoch}/{progress.epochs}"),
            (1, f"loss {progress.loss:.4f}"),
            (2, f"accuracy {percent(progress.accuracy)}"),
            (4, f"{progress.rate:.0f} images/s"),
        ]
        return [*parts, (3, f"{duration_text(remaining)} left")] if remaining is not None else parts
    if isinstance(progress, Validating):
        return [(0, f"epoch {progress.epoch}/{progress.epochs}, validation"), (1, f"{progress.done}/{progress.total}")]
    return [(0, progress.sentence())]


def fitting(parts: list[tuple[int, str]], width: int) -> list[str]:
    """Return the texts that fit into `width` columns with two spaces between them, the first one in any case."""
    kept = list(parts)
    while len(kept) > 1 and sum(2 + len(text) for _, text in kept) - 2 > width:
        kept.remove(max(kept))
    return [text for _, text in kept]
