"""Files that the plugin and the chart read, generated from the job's tables: its options and its exit codes.

`python -m docs.generated` writes them; with --check it only compares, and ends with 1 if one is out of date. The
plugin's modules beside the files describe their contents.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click

from catsdogs.config.kinds import Duration, RunId
from catsdogs.config.option import Option, variable
from catsdogs.options import OPTIONS
from catsdogs.runtime.errors import EXIT_CODES

REPOSITORY = Path(__file__).parents[1]
PLUGIN = REPOSITORY / "k8s" / "kubectl_catsdogs"
CHART = REPOSITORY / "helm" / "catsdogs-train"


def job_options() -> str:
    """Return JSON: option name with `_` → type, bounds or choices, default, and the chart's value that sets it."""
    lines = [f'  "{entry.name or name}": {json.dumps(_option(entry))}' for name, entry in OPTIONS.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def exit_codes() -> str:
    """Return JSON: a list of code, meaning, and whether a retry may help."""
    lines = [
        "  " + json.dumps({"code": code, "meaning": meaning, "retry_helps": retryable})
        for code, (meaning, retryable) in EXIT_CODES.items()
    ]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def variables() -> str:
    """Return JSON: the environment variables of the options. The chart shows the values of no others."""
    names = [variable(entry.name or name) for name, entry in OPTIONS.items()]
    return json.dumps(sorted(names), indent=2) + "\n"


FILES = {
    PLUGIN / "submit" / "job_options.json": job_options,
    PLUGIN / "base" / "exit_codes.json": exit_codes,
    CHART / "variables.json": variables,
}


def _option(entry: Option) -> dict[str, Any]:
    default = None if entry.default_text is not None else entry.default
    chart_value = {} if entry.chart_value is None else {"chart_value": entry.chart_value}
    return {**_type(entry.type), "default": default, **chart_value}


def _type(kind: click.ParamType[Any]) -> dict[str, Any]:
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        bounds = {
            "exclusive_minimum" if kind.min_open else "minimum": kind.min,
            "exclusive_maximum" if kind.max_open else "maximum": kind.max,
        }
        number = "integer" if isinstance(kind, click.IntRange) else "number"
        return {"type": number, **{name: bound for name, bound in bounds.items() if bound is not None}}
    if isinstance(kind, click.Choice):
        return {"type": "choice", "choices": list(kind.choices)}
    if kind is click.BOOL:
        return {"type": "flag"}
    return {"type": {Duration: "duration", RunId: "name"}.get(type(kind), "text")}


def main(arguments: list[str]) -> int:
    outdated = [path for path, text in FILES.items() if not path.exists() or path.read_text() != text()]
    for path in outdated:
        if arguments == ["--check"]:
            print(f"{path} is out of date; run: make docs", file=sys.stderr)  # noqa: T201
        else:
            path.write_text(FILES[path]())
    return int(arguments == ["--check"] and bool(outdated))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
