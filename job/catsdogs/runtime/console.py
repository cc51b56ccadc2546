"""The terminal: lines of text, and below them a progress bar that is redrawn in place."""

from typing import Any

import click

from catsdogs.runtime.events import Event
from catsdogs.runtime.log import TextLines


class Terminal(TextLines):
    """Text lines, and below them, for progress, a bar that is redrawn in place and vanishes when its stage ends."""

    interval = 0.1
    ERASED = "\r\033[2K\033[?25h"
    """Takes back a bar, and shows the cursor that it has hidden."""

    bar: Any = None
    stage: tuple[str, int] | None = None

    def show(self, event: Event, worker: int) -> None:
        data = event.data()
        if event.progress and self.stage == (event.name, data["total"]) and data["done"] >= self.bar.pos:
            self.bar.update(data["done"] - self.bar.pos)
            return
        if self.bar is not None:
            self.stream.write(self.ERASED)
            self.bar = self.stage = None
        if event.progress:
            label = f"epoch {data['epoch']}/{data['epochs']} {event.name}" if "epoch" in data else event.name
            self.bar = click.progressbar(length=data["total"], label=label, file=self.stream)
            self.bar.update(data["done"])
            self.stage = (event.name, data["total"])
        else:
            super().show(event, worker)
