"""What the job said: its log lines, in text or JSON, read back as events.

Only those events that the plugin has a use for. A line that is none of them is just a line.
"""

import json
import re
from typing import Any

from kubectl_catsdogs.base.contract import Object, dig

NUMBER = r"-?[0-9.]+|nan|inf"
PATTERNS = {
    "started": r"catsdogs \S+: run (?P<run_id>\S+), recipe (?P<recipe>\S+), (?P<epochs>\d+) epochs, seed \d+",
    "already-published": r"run \S+ is already published at (?P<uri>\S+); nothing to do",
    "assembling": r"waiting for (?P<whom>(?!storage, ).+), \S+ \S+ at most",
    "fetching": r"fetching images: (?P<done>[\d,]+) of (?P<total>[\d,]+)",
    "device": r"training on (?P<device>.+), \S+, \d+ replica\(s\)",
    "resumed": r"resuming at epoch (?P<epoch>\d+)/(?P<epochs>\d+), step (?P<step>\d+)/(?P<steps>\d+), from .*",
    "training": rf"epoch (?P<epoch>\d+)/(?P<epochs>\d+): step (?P<done>\d+)/(?P<total>\d+),"
    rf" loss (?:{NUMBER}), accuracy (?P<accuracy>{NUMBER}) %, .* images/s",
    "validating": r"epoch (?P<epoch>\d+)/(?P<epochs>\d+): validation step (?P<done>\d+)/(?P<total>\d+)",
    "epoch": rf"epoch (?P<epoch>\d+)/(?P<epochs>\d+): loss (?:{NUMBER}), accuracy (?P<accuracy>{NUMBER}) %,"
    rf" validation loss (?:{NUMBER}), validation accuracy (?P<val_accuracy>{NUMBER}) %,"
    r" .*, .* images/s, (?P<remaining>.+) left",
    "trained": rf"trained (?P<epochs>\d+) epochs in .+; best epoch (?P<best_epoch>\d+):"
    rf" validation loss (?:{NUMBER}), validation accuracy (?P<val_accuracy>{NUMBER}) %",
    "evaluating": r"evaluating: step (?P<done>\d+)/(?P<total>\d+)",
    "evaluated": rf"test accuracy (?P<accuracy>{NUMBER}) % on .*",
    "uploading": r"uploading: (?P<done>\d+) of (?P<total>\d+) artifacts",
    "published": r"published \d+ artifacts, .+, each verified, at (?P<uri>\S+)",
    "waiting": r"waiting for storage, .+ at most: (?P<reason>.*)",
    "failed": r"ended with exit code (?P<exit_code>\d+): (?P<error>.*)",
}
_COMPILED = {event: re.compile(r"\d\d:\d\d:\d\d " + pattern) for event, pattern in PATTERNS.items()}
WORKER = re.compile(r"(\d\d:\d\d:\d\d |catsdogs: )?worker [1-9]\d*: ")
"""How a line of another worker than the first begins."""
PROGRESS = {"fetching", "training", "validating", "evaluating", "uploading"}
SHARES = {"accuracy", "val_accuracy"}
WHOLE = {"done", "total", "epoch", "epochs", "best_epoch", "step", "steps", "exit_code"}


def event_of(line: str) -> tuple[str, Object] | None:
    """The event and its data, of a line as the pod's log has it; None for any other line, and one of another worker
    than the first, which alone tells how far the run is.
    """
    if line.startswith("{"):
        data = _json(line)
        if dig(data, "worker", default=0):
            return None
        event = data.get("event") if isinstance(data, dict) else None
        return (event, data) if event in PATTERNS else None
    for event, pattern in _COMPILED.items():
        if found := pattern.fullmatch(line):
            return event, {name: _value(name, value) for name, value in found.groupdict().items()}
    return None


def of_worker(line: str, index: int) -> str:
    """The line with the worker in front, unless it is said there already, as the job's own lines say it."""
    marked = not index or line.startswith("{") or WORKER.match(line)
    return line if marked else f"worker {index}: {line}"


def is_of_first(line: str) -> bool:
    """Whether it is of the only worker, or the first."""
    return not WORKER.match(line) and not dig(_json(line), "worker", default=0)


def _json(line: str) -> Any:
    """None if it is not."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _value(name: str, text: str) -> Any:
    if name in WHOLE:
        return int(text.replace(",", ""))
    if name in SHARES:
        return float(text) / 100
    if name == "remaining":
        return _seconds(text)
    return text


def _seconds(text: str) -> float | None:
    """'0.4 s', '1:15 min', '2:03 h' → seconds."""
    number, _, unit = text.partition(" ")
    try:
        if unit == "s":
            return float(number)
        large, small = map(int, number.split(":"))
    except ValueError:
        return None
    return (large * 60 + small) * {"min": 1.0, "h": 60.0}.get(unit, 1.0)
