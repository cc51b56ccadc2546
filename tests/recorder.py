"""A sink that remembers what the job reported."""

from typing import Any

from catsdogs.runtime.events import Event


class Recorder:
    def __init__(self, interval: float = 0.0) -> None:
        self.interval = interval
        self.events: list[tuple[str, dict[str, Any]]] = []

    def show(self, event: Event, worker: int) -> None:
        self.events.append((event.name, event.data()))

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the data of every event of that name, the oldest first."""
        return [data for event, data in self.events if event == name]
