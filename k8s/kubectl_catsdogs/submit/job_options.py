"""The job's options and their types, from `job_options.json`. Pure.

That file is generated from the job's own table of options. It is one object, option name with `_` → entry, in the order
of the job's help; each entry is on a line of its own:

    {
      "archive": {"type": "text", "default": null, "chart_value": "archive.key"},
      "epochs": {"type": "integer", "minimum": 1, "default": null},
      …
    }

| key | value |
|---|---|
| `type` | `integer`, `number`, `choice`, `duration` (seconds, or a number with s, m or h), `name` (up to 100 letters, digits, `-`, `_` and `.`, not beginning with `.`), `flag` or `text` |
| `minimum`, `exclusive_minimum`, `maximum`, `exclusive_maximum` | bounds of an integer or number, each only where there is one |
| `choices` | the values of a choice, and of no other type |
| `default` | as on the command line: text, number, true or false; null where there is none, or where the recipe has it |
| `chart_value` | the chart's value that sets the option for all runs of a release, as it belongs together with mounts, credentials and the like; absent for an option that `submit --set` may change |
"""  # noqa: E501

import functools
import json
from importlib import resources
from typing import Any, NamedTuple

import click

from kubectl_catsdogs.base.duration import Duration


class RunId(click.ParamType[str]):
    """A name that is safe as a folder and as a key."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
        if not value or len(value) > 100 or set(value) - allowed or value.startswith("."):
            self.fail(f"{value!r}: use up to 100 letters, digits, '-', '_' and '.', not '.' first", param, ctx)
        return value


class JobOption(NamedTuple):
    kind: click.ParamType[Any]
    chart_value: str | None
    """The value that sets it for all runs of a release; None if each run may have its own."""


@functools.cache
def job_options() -> dict[str, JobOption]:
    """Return the options by name, with `_`, in the order of the job's help."""
    entries = json.loads(resources.files(__package__).joinpath("job_options.json").read_text(encoding="utf-8"))
    return {name: JobOption(_kind(entry), entry.get("chart_value")) for name, entry in entries.items()}


def settable() -> dict[str, click.ParamType[Any]]:
    """Return the types of the options that a run may have of its own."""
    return {name: option.kind for name, option in job_options().items() if option.chart_value is None}


def _kind(entry: dict[str, Any]) -> click.ParamType[Any]:
    bounds: dict[str, Any] = {
        "min": entry.get("minimum", entry.get("exclusive_minimum")),
        "max": entry.get("maximum", entry.get("exclusive_maximum")),
        "min_open": "exclusive_minimum" in entry,
        "max_open": "exclusive_maximum" in entry,
    }
    kinds: dict[str, Any] = {
        "integer": lambda: click.IntRange(**bounds),
        "number": lambda: click.FloatRange(**bounds),
        "choice": lambda: click.Choice(entry["choices"]),
        "duration": Duration,
        "name": RunId,
        "flag": lambda: click.BOOL,
        "text": lambda: click.STRING,
    }
    kind: click.ParamType[Any] = kinds[entry["type"]]()
    return kind
