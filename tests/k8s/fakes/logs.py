"""The job's log in each of its formats, as the pod's container writes it."""

import json
from datetime import UTC, datetime
from typing import Any

FORMATS = ("mixed", "json")
"""Those with lines of JSON."""
TIME = datetime(2026, 1, 1, 12, 0, 9, 123000, tzinfo=UTC)


def lines(event: str, text: str = "", form: str = "mixed", **data: Any) -> list[str]:
    """Return the lines of one event: for `mixed` one of JSON and one of text, for `json` and `text` one."""
    text = text or f"the text of {event}"
    line = {"time": TIME.isoformat(timespec="milliseconds"), "event": event}
    match form:
        case "mixed":
            return [json.dumps(line | data), f"{TIME:%H:%M:%S} {text}"]
        case "json":
            return [json.dumps(line | {"text": text} | data)]
    return [f"{TIME:%H:%M:%S} {text}"]


def epoch(number: int, of: int = 3, form: str = "mixed", **data: Any) -> list[str]:
    """Return the lines of an epoch that has ended."""
    values = {"accuracy": 0.75, "val_accuracy": 0.7, "remaining": 20.0} | data
    return lines("epoch", f"epoch {number}/{of}: …", form, epoch=number, epochs=of, **values)
