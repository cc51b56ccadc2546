"""The job's log: its lines of JSON read as events, and its lines of text as people see them. Pure.

A line of JSON begins with `{` and has the event's name, its time and its data:

    {"time": "2026-01-01T12:00:09.123+00:00", "event": "epoch", "epoch": 3, "epochs": 30, "accuracy": 0.712, …}

With `logFormat: mixed`, the chart's default, such a line has no `text`: it is for programs, and the next line is the
same event for people, `12:00:09 epoch 3/30: …`. With `json` there are only lines of JSON, each with its `text`. With
`text` there are none, and nothing is known of a run's progress.

Logs are untrusted input. A line that is not an event, or too large or too deeply nested to be one, is just a line of
text; unknown fields, and fields of the wrong type, are ignored.
"""

import json
import math
import re
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple, get_type_hints

from kubectl_catsdogs.base.text import moment

MAX_EVENT = 16_384
"""Characters of a line that is read as an event; the job's own have a few hundred."""
MAX_INTEGER = 10**15
_MARKED = re.compile(r"(\d\d:\d\d:\d\d |catsdogs: )?worker [1-9]\d*: ")
"""How the job's own lines name a worker other than worker 0."""


@dataclass(frozen=True)
class Event:
    """An event of the log. A field is None where the line does not have it."""

    worker: int | None = None
    """Index of the worker that wrote it; worker 0 leaves it out."""
    time: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Other(Event):
    """An event that the plugin does not follow."""


@dataclass(frozen=True)
class Started(Event):
    recipe: str | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class Assembling(Event):
    """Waiting for other workers."""

    whom: str | None = None


@dataclass(frozen=True)
class Waiting(Event):
    """Waiting for storage."""

    reason: str | None = None


@dataclass(frozen=True)
class Device(Event):
    device: str | None = None


@dataclass(frozen=True)
class Resumed(Event):
    epoch: int | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class StageProgress(Event):
    """How far a stage has come; one of several that the job writes now and then."""

    done: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Fetching(StageProgress):
    pass


@dataclass(frozen=True)
class Evaluating(StageProgress):
    pass


@dataclass(frozen=True)
class Uploading(StageProgress):
    pass


@dataclass(frozen=True)
class Validating(StageProgress):
    epoch: int | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class Training(StageProgress):
    epoch: int | None = None
    epochs: int | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class EpochEnded(Event):
    epoch: int | None = None
    epochs: int | None = None
    accuracy: float | None = None
    val_accuracy: float | None = None
    remaining: float | None = None
    """Seconds."""


@dataclass(frozen=True)
class Trained(Event):
    epochs: int | None = None
    best_epoch: int | None = None
    val_accuracy: float | None = None
    """Of the best epoch."""


@dataclass(frozen=True)
class Evaluated(Event):
    accuracy: float | None = None


@dataclass(frozen=True)
class Published(Event):
    uri: str | None = None


@dataclass(frozen=True)
class Failed(Event):
    exit_code: int | None = None
    error: str | None = None


EVENTS: dict[str, type[Event]] = {
    "started": Started,
    "already-published": Published,
    "assembling": Assembling,
    "waiting": Waiting,
    "device": Device,
    "resumed": Resumed,
    "fetching": Fetching,
    "training": Training,
    "validating": Validating,
    "epoch": EpochEnded,
    "trained": Trained,
    "evaluating": Evaluating,
    "evaluated": Evaluated,
    "uploading": Uploading,
    "published": Published,
    "failed": Failed,
}
"""The job's name of each event that the plugin follows."""


def event_of(line: str) -> Event | None:
    """Return the event that a line of the log is; None for a line of text, or of JSON that is no event."""
    if not line.startswith("{") or len(line) > MAX_EVENT:
        return None
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get("event"), str):
        return None
    kind = EVENTS.get(data["event"], Other)
    hints = get_type_hints(kind)
    return kind(**{field.name: _typed(data.get(field.name), hints[field.name]) for field in fields(kind)})


def _typed(value: Any, hint: Any) -> Any:
    """Return the value if it has the field's type, str, int or float, and is finite; else None."""
    if isinstance(value, bool):
        return None
    if hint == str | None:
        return value if isinstance(value, str) else None
    if hint == int | None:
        return value if isinstance(value, int) and abs(value) <= MAX_INTEGER else None
    if isinstance(value, int) and abs(value) <= MAX_INTEGER:
        return float(value)
    return value if isinstance(value, float) and math.isfinite(value) else None


class LogLine(NamedTuple):
    """A line of one worker's log, decoded with surrogateescape."""

    worker: int
    raw: str

    @property
    def event(self) -> Event | None:
        return event_of(self.raw)


def text_of(line: str) -> str | None:
    """Return a line as people read it: a line of JSON with a text as `12:00:09 text`, any other line as it is.

    None for an event without a text, which is only for programs. A failure is only its error, as its exit code is shown
    apart.
    """
    event = event_of(line)
    if event is None:
        return line
    if isinstance(event, Failed) and event.error is not None:
        return event.error
    if event.text is None:
        return None
    return f"{stamp_of(event)}{event.text}"


def stamp_of(event: Event) -> str:
    """Return how the job's line of text of the same event begins: '12:00:09 '; empty if the event has no time."""
    time: datetime | None = moment(event.time)
    return f"{time:%H:%M:%S} " if time else ""


def last_text(lines: list[str]) -> str | None:
    """Return the last line that people read."""
    return next((text for line in reversed(lines) if (text := text_of(line)) is not None and text.strip()), None)


def of_worker(line: str, index: int) -> str:
    """Return the line with its worker in front, unless the job has named it, as it does in its own lines."""
    marked = not index or line.startswith("{") or _MARKED.match(line)
    return line if marked else f"worker {index}: {line}"
