"""The sinks of events: lines of text, lines of JSON, or both. The sink for a terminal is in `console`."""

import contextlib
import json
import math
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

from catsdogs.runtime.events import Event, Failed


class Sink(Protocol):
    interval: float
    """Least number of seconds between two progress events that are shown."""

    def show(self, event: Event, worker: int) -> None: ...


def text_of(event: Event, worker: int) -> str:
    """Return the event's sentence, prefixed with the worker unless it is worker 0."""
    return f"worker {worker}: {event.sentence()}" if worker else event.sentence()


def data_of(event: Event, worker: int, now: datetime) -> dict[str, Any]:
    """Return time (ISO 8601), event and the event's fields as JSON has them: what is not a number as null."""
    # JSON knows no NaN, which the loss of a training that diverges is.
    fields = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in event.data().items()
    }
    time = now.isoformat(timespec="milliseconds")
    return {"time": time, "event": event.name, **({"worker": worker} if worker else {}), **fields}


class Lines:
    """Writes to a stream, each line at once."""

    interval = 5.0

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, line: str) -> None:
        print(line, file=self.stream, flush=True)

    def write_json(self, data: dict[str, Any]) -> None:
        self.write(json.dumps(data, default=str, allow_nan=False))


class TextLines(Lines):
    """One line of text an event: never a carriage return."""

    def show(self, event: Event, worker: int) -> None:
        self.write(f"{datetime.now(UTC):%H:%M:%S} {text_of(event, worker)}")


class JsonLines(Lines):
    """One line of JSON an event, its text among the fields."""

    def show(self, event: Event, worker: int) -> None:
        fields = data_of(event, worker, datetime.now(UTC))
        head = {"time": fields["time"], "event": event.name, "text": text_of(event, worker)}
        self.write_json(head | fields)


class MixedLines(Lines):
    """For each event a line of JSON without its text, for programs, and below it the line of text, for people.

    The two have the same second, so that a program can pair them. Progress is shown half as often as in text alone:
    people then get no more lines than there.
    """

    interval = 10.0

    def show(self, event: Event, worker: int) -> None:
        now = datetime.now(UTC)
        self.write_json(data_of(event, worker, now))
        self.write(f"{now:%H:%M:%S} {text_of(event, worker)}")


class Log:
    """Reports each event to every sink. Workers other than 0 skip the events that are the same for all."""

    def __init__(self, sinks: Iterable[Sink], worker: int = 0):
        self._worker = worker
        self._lock = threading.Lock()
        self._last_shown = {sink: time.monotonic() for sink in sinks}

    @contextlib.contextmanager
    def recorded_in(self, file: TextIO) -> Iterator[None]:
        """Within the context, also append each event to the file as JSON lines, and the exception that ends it."""
        sink = JsonLines(file)
        self._last_shown[sink] = time.monotonic()
        try:
            yield
        except Exception as error:
            sink.show(Failed(exit_code=getattr(error, "exit_code", 1), error=str(error)), self._worker)
            raise
        finally:
            del self._last_shown[sink]

    def due(self) -> bool:
        """Return whether a progress event would be shown now, so that callers need not make one in vain."""
        now = time.monotonic()
        return any(now - last >= sink.interval for sink, last in self._last_shown.items())

    def emit(self, event: Event) -> None:
        if self._worker and event.shared:
            return
        now = time.monotonic()
        with self._lock:
            for sink, last in self._last_shown.items():
                if not event.progress or now - last >= sink.interval:
                    self._last_shown[sink] = now
                    sink.show(event, self._worker)
