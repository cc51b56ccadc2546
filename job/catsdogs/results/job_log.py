"""What a run's log.jsonl says about its starts. Lines that a crash cut short, and lines of no event, are skipped."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

from catsdogs.runtime.errors import Interrupted, printable


class Before(TypedDict):
    """What happened before the training."""

    starts: int
    preparing: float
    """Seconds, of all starts."""


def before_training(lines: Iterable[str]) -> Before:
    """Return what the log says about the time before its run's training."""
    starts, preparing = 0, 0.0
    for event in _events(lines):
        starts += event["event"] == "started"
        if event["event"] in ("unpacked", "split", "split-reused"):
            preparing += _number(event.get("seconds"))
    return {"starts": starts, "preparing": preparing}


@dataclass(frozen=True)
class Start:
    """The newest start of a run, as far as its log tells."""

    began: datetime | None
    host: str | None
    """The name of the machine, in Kubernetes that of the pod. Older versions did not log it."""
    last: datetime
    """When the newest event was logged."""
    text: str
    """Of the newest event: one line."""
    exit_code: int | None
    """Of a start that failed or was interrupted."""

    @property
    def interrupted(self) -> bool:
        return self.exit_code == Interrupted.exit_code


def newest_start(lines: Iterable[str]) -> Start | None:
    """Return the newest start that the log tells about; None if there is no event in it."""
    began: datetime | None = None
    host: str | None = None
    newest: Start | None = None
    for event in _events(lines):
        time = _time(event.get("time"))
        if time is None:
            continue
        if event["event"] == "started":
            began, host = time, _text(event.get("host"))
        failed = event["event"] == "failed"
        exit_code = event.get("exit_code") if failed else None
        text = _text(event.get("error" if failed else "text")) or event["event"]
        newest = Start(began, host, time, text, exit_code if type(exit_code) is int else None)
    return newest


def _events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Each line that is an event, its `event` a string."""
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            yield {**event, "event": printable(event["event"])}


def _number(value: object) -> float:
    # A whole number of hundreds of digits is valid JSON, and no float.
    return value if isinstance(value, float) else float(min(value, 1 << 53)) if type(value) is int else 0.0


def _text(value: object) -> str | None:
    return printable(value) if isinstance(value, str) else None


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
        return None if time is None or time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
