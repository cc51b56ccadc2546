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


def data_of(event: Event, worker: int) -> dict[str, Any]:
    """Return time (UTC, ISO 8601), event and the event's fields as JSON has them, NaN and infinity as null."""
    # The loss of a training that diverges is NaN, which JSON does not have.
    fields = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in event.data().items()
    }
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"time": now, "event": event.name, **({"worker": worker} if worker else {}), **fields}


def _print_json(line: dict[str, Any], stream: TextIO) -> None:
    print(json.dumps(line, default=str, allow_nan=False), file=stream, flush=True)


class TextLines:
    """One line of text per event, without carriage returns."""

    interval = 5.0

    def __init__(self, stream: TextIO):
        self.stream = stream

    def show(self, event: Event, worker: int) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {text_of(event, worker)}", file=self.stream, flush=True)


class JsonLines:
    """One line of JSON per event; `text` is one of its fields."""

    interval = 5.0

    def __init__(self, stream: TextIO):
        self.stream = stream

    def show(self, event: Event, worker: int) -> None:
        line = data_of(event, worker)
        _print_json(
            {"time": line.pop("time"), "event": line.pop("event"), "text": text_of(event, worker), **line}, self.stream
        )


class JsonLinesWithoutText:
    """The lines of JSON between lines of text: without the text, which precedes them, and with less progress."""

    interval = 30.0

    def __init__(self, stream: TextIO):
        self.stream = stream

    def show(self, event: Event, worker: int) -> None:
        _print_json(data_of(event, worker), self.stream)


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
