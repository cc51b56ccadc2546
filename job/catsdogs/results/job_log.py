"""What a run's log.jsonl says about its starts. Lines that a crash cut short, and lines of no event, are skipped."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, TypedDict

from catsdogs.runtime.errors import Interrupted, printable
from catsdogs.storage import schema

MAX_LINE = 1 << 16
"""Bytes of a line that is read as an event; the job's own have a few hundred."""
MAX_SECONDS = 1e9
MAX_SHOWN = 2000
"""Characters of a text that are kept."""


def lines_of(file: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a log, without those longer than MAX_LINE. Raises OSError."""
    whole = True
    while line := file.readline(MAX_LINE + 1):
        ends = line.endswith(b"\n")
        if whole and (ends or len(line) <= MAX_LINE):
            yield line.decode(errors="replace")
        whole = ends


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
        newest = Start(began, host, time, text, exit_code if type(exit_code) is int and 0 <= exit_code <= 255 else None)
    return newest


def _events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Each line that is an event, its `event` a string."""
    for line in lines:
        # What is no event at all is passed over at no cost: there may be millions.
        if not line.startswith("{") or '"event"' not in line:
            continue
        try:
            event = schema.parse(line, dict[str, object])
        except ValueError:
            continue
        if (name := _text(event.get("event"))) is not None:
            yield {**event, "event": name}


def _number(value: Any) -> float:
    return float(value) if type(value) in (int, float) and 0 <= value <= MAX_SECONDS else 0.0


def _text(value: object) -> str | None:
    return printable(value[:MAX_SHOWN]) if isinstance(value, str) else None


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
        return None if time is None or time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
