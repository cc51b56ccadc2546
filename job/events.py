"""What the job says: one event, shown as a line of text, a line of JSON, or a progress bar.

`EVENTS` holds every sentence that the job can say. An event is its name and its data; the text is
made from the data, so that the two forms cannot drift apart.
"""

import contextlib
import json
import math
import string
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

import click

from job.errors import printable

EVENTS = {
    "started": "catsdogs {version}: run {run_id}, recipe {recipe}, {epochs} epochs, seed {seed}",
    "already-published": "run {run_id} is already published at {uri}; nothing to do",
    "assembling": "waiting for {whom}, {left!t} at most",
    "assembled": "all {workers} workers are there, after {seconds!t}",
    "archive": "archive {uri}: {size!b}, {cats:,} cats and {dogs:,} dogs",
    "passed-over": "passed over {count:,} members of the archive that are no labelled images: {examples}",
    "unpacking": "unpacking {member}: {done!b} of {total!b}",
    "unpacking-again": "unpacking {member} again: {reason}",
    "unpacked-damaged": "{path} is damaged and is unpacked again",
    "unpacked": "unpacked {member}: {size!b} in {seconds!t}",
    "split-reused": "split {directory} is complete and verified: {images:,} images, checked in {seconds!t}",
    "split-damaged": "split {directory}: {count} files are missing or damaged and are fetched again, first {first}",
    "fetching": "fetching images: {done:,} of {total:,}",
    "quarantined": "left out {member}: {reason}",
    "split": "split {directory}: {train:,} train, {validation:,} validation, {test:,} test images;"
    " {fetched:,} fetched in {seconds!t}, {moved!b} moved, {quarantined} left out",
    "device": "training on {device}, {dtype}, {replicas} replica(s)",
    "model": "recipe {recipe}: {parameters:,} parameters, images {image_size}x{image_size}, batches of {batch_size}",
    "resumed": "resuming at epoch {epoch}/{epochs}, step {step}/{steps}, from {checkpoint}",
    "checkpoint-damaged": "checkpoint {checkpoint} is damaged ({reason}) and is passed over",
    "training": "epoch {epoch}/{epochs}: step {done}/{total}, loss {loss:.4f}, accuracy {accuracy!p},"
    " {rate:.0f} images/s",
    "validating": "epoch {epoch}/{epochs}: validation step {done}/{total}",
    "epoch": "epoch {epoch}/{epochs}: loss {loss:.4f}, accuracy {accuracy!p},"
    " validation loss {val_loss:.4f}, validation accuracy {val_accuracy!p},"
    " {seconds!t}, {rate:.0f} images/s, {remaining!t} left",
    "trained": "trained {epochs} epochs in {seconds!t}; best epoch {best_epoch}:"
    " validation loss {val_loss:.4f}, validation accuracy {val_accuracy!p}",
    "already-trained": "run {run_id} is already trained on this volume",
    "evaluating": "evaluating: step {done}/{total}",
    "evaluated": "test accuracy {accuracy!p} on {images:,} images ({correct:,} right), test loss {loss:.4f}",
    "exported": "exported {artifact}, {size!b}; its probabilities for {images:,} test images differ from model.keras's"
    " by {difference:.1e} at most",
    "tracking": "logging to MLflow at {uri}, run {run}, which has {epochs} epochs so far",
    "untracked": "MLflow at {uri} does not take the run ({reason}); the run goes on, and is logged once it does",
    "tracked": "logged to MLflow at {uri}: {epochs} epochs, {artifacts} artifacts",
    "uploading": "uploading: {done} of {total} artifacts",
    "published": "published {artifacts} artifacts, {size!b}, each verified, at {uri}",
    "waiting": "waiting for storage, {left!t} at most: {reason}",
    "artifact": "{name}: {size!b}, as the manifest says",
    "artifact-differs": "differs: {reason}",
    "verified": "verified run {run_id}: its {artifacts} artifacts are what its manifest says",
    "reproduced": "evaluated again on {device}: {correct:,} of {images:,} test images right, {accuracy!p}, as the run"
    " claims; every verdict is the same, probabilities differ by {difference:.1e} at most",
    "further": "on {images:,} further images, which the run has not used: {correct:,} right, {accuracy!p}, 95 %"
    " interval {low!p} to {high!p}, loss {loss:.4f}; {broken:,} more are no pictures",
    "failed": "ended with exit code {exit_code}: {error}",
    "demo": "{text}",
}
"""Event name → its text, a format string over its data. Conversions: !b bytes, !t seconds, !p share."""

OF_ALL = {
    "assembled", "archive", "passed-over", "model", "resumed", "training", "validating", "epoch", "trained",
    "already-trained", "evaluating", "evaluated", "published",
}  # fmt: skip
"""Events that are the same for all workers of a run: worker 0 alone says them."""

PROGRESS = {"unpacking", "fetching", "training", "validating", "evaluating", "uploading"}
"""Events that may come many times a second, with `done` and `total`; a sink shows one every `interval`."""


def size_text(count: float) -> str:
    """1234567 → '1.2 MB'; powers of 1000, as storage is sold."""
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB"):
        count /= 1000
        # Rounded first: 999,950 bytes are not 1000.0 kB.
        if round(count, 1) < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.2f} GB"


def duration_text(seconds: float) -> str:
    """0.43 → '0.4 s', 75 → '1:15 min', 7380 → '2:03 h'."""
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"


def percent(share: float) -> str:
    """0.727 → '72.7 %'."""
    return f"{100 * share:.1f} %"


class _EventFormatter(string.Formatter):
    def convert_field(self, value: Any, conversion: str | None) -> Any:
        match conversion:
            case "b":
                return size_text(value)
            case "t":
                return duration_text(value)
            case "p":
                return percent(value)
        return super().convert_field(value, conversion)


_FORMATTER = _EventFormatter()


def text_of(event: str, data: dict[str, Any]) -> str:
    """One line. What is not printable in the data, as a name in a zip may have it, is escaped."""
    whose = f"worker {data['worker']}: " if "worker" in data else ""
    return printable(whose + _FORMATTER.vformat(EVENTS[event], (), data))


class Sink(Protocol):
    interval: float
    """Seconds between two progress events of one stage that are worth showing here."""

    def show(self, event: str, data: dict[str, Any]) -> None: ...


class TextLines:
    """One line an event, as `kubectl logs` shows them: never a carriage return."""

    interval = 5.0

    def __init__(self, stream: TextIO):
        self.stream = stream

    def show(self, event: str, data: dict[str, Any]) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {text_of(event, data)}", file=self.stream, flush=True)


class JsonLines:
    """The same events as JSON: time (UTC, ISO 8601), event, text, and the event's data, what is no number as null."""

    interval = 5.0

    def __init__(self, stream: TextIO):
        self.stream = stream

    def show(self, event: str, data: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        # JSON knows no NaN, which the loss of a training that diverges is.
        known = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in data.items()
        }
        line = {"time": now, "event": event, "text": text_of(event, data), **known}
        print(json.dumps(line, default=str, allow_nan=False), file=self.stream, flush=True)


class Terminal(TextLines):
    """Text lines, and below them, for progress, a bar that is redrawn in place and vanishes when its stage ends."""

    interval = 0.1
    ERASED = "\r\033[2K\033[?25h"
    """Takes back a bar, and shows the cursor that it has hidden."""

    bar: Any = None
    stage: tuple[str, int] | None = None

    def show(self, event: str, data: dict[str, Any]) -> None:
        if event in PROGRESS and self.stage == (event, data["total"]) and data["done"] >= self.bar.pos:
            self.bar.update(data["done"] - self.bar.pos)
            return
        if self.bar is not None:
            self.stream.write(self.ERASED)
            self.bar = self.stage = None
        if event in PROGRESS:
            label = f"epoch {data['epoch']}/{data['epochs']} {event}" if "epoch" in data else event
            self.bar = click.progressbar(length=data["total"], label=label, file=self.stream)
            self.bar.update(data["done"])
            self.stage = (event, data["total"])
        else:
            super().show(event, data)


class Log:
    """Says each event to every sink; for a worker other than 0 what is its own, with its number as `worker`."""

    def __init__(self, sinks: Iterable[Sink], worker: int = 0):
        self._whose = {"worker": worker} if worker else {}
        self._lock = threading.Lock()
        self._last_shown = {sink: time.monotonic() for sink in sinks}

    @contextlib.contextmanager
    def recorded_in(self, file: TextIO) -> Iterator[None]:
        """Within it, what is said is also appended to the file, as JSON lines, and so is an exception that ends it."""
        sink = JsonLines(file)
        self._last_shown[sink] = time.monotonic()
        try:
            yield
        except Exception as error:
            code = getattr(error, "exit_code", 1)
            sink.show("failed", {**self._whose, "exit_code": code, "error": str(error)})
            raise
        finally:
            del self._last_shown[sink]

    def due(self) -> bool:
        """Whether a progress event said now would be shown. Spares making one that is not."""
        now = time.monotonic()
        return any(now - last >= sink.interval for sink, last in self._last_shown.items())

    def say(self, event: str, **data: Any) -> None:
        """`event` is a key of EVENTS, `data` fills its text."""
        if self._whose and event in OF_ALL:
            return
        data = {**self._whose, **data}
        now = time.monotonic()
        with self._lock:
            for sink, last in self._last_shown.items():
                if event not in PROGRESS or now - last >= sink.interval:
                    self._last_shown[sink] = now
                    sink.show(event, data)
