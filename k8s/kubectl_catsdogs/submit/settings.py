"""The settings of further runs: NAME=VALUE, checked before anything is sent. Pure.

What values mean together is left to the job, which ends at once, with 78, where they contradict each other.
"""

import difflib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import click

from kubectl_catsdogs.base.errors import Usage
from kubectl_catsdogs.submit.job_options import job_options, settable

Settings = dict[str, str]
"""Option name with `_` → its value, each value in one spelling only."""


def parse(name: str, text: str) -> Any:
    """Return the value as the job would read it. Raises Usage for one that it would reject. `name` is settable."""
    try:
        value = settable()[name].convert(text, None, None)
    except click.BadParameter as error:
        raise Usage(f"{name}={text}: {error.message}") from None
    if isinstance(value, float) and math.isnan(value):
        raise Usage(f"{name}={text}: not a number")
    return value


def same(name: str, left: str | None, right: str) -> bool:
    """Return whether two texts are the same value, as 1e-3 and 0.001 are. None is no value."""
    try:
        return left is not None and bool(parse(name, left) == parse(name, right))
    except Usage:
        return False


def combinations(settings: Sequence[str], sweeps: Sequence[str]) -> list[Settings]:
    """Return the settings of each run, from NAME=VALUE and NAME=VALUE,VALUE…; the last sweep varies fastest.

    Raises Usage.
    """
    fixed = _by_name(settings)
    swept = _by_name(sweeps)
    if twice := fixed.keys() & swept.keys():
        raise Usage(f"{min(twice)}: give it to --set or to --sweep, not to both")
    if sweeps and "run_id" in fixed | swept:
        raise Usage("run_id: each run of a sweep gets an id of its own")
    constant = {name: _normalized(name, text) for name, text in fixed.items()}
    # Without duplicates, in the order given.
    choices = [
        [(name, text) for text in dict.fromkeys(_normalized(name, part) for part in texts.split(","))]
        for name, texts in swept.items()
    ]
    return [constant | dict(chosen) for chosen in itertools.product(*choices)]


def _by_name(texts: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for text in texts:
        given, equals, value = text.partition("=")
        name = given.strip().replace("-", "_")
        if not equals:
            raise Usage(f"{text}: write NAME=VALUE")
        option = job_options().get(name)
        if option is None:
            names = settable()
            near = difflib.get_close_matches(name, names, 1)
            hint = f"do you mean {near[0]}?" if near else f"options are {', '.join(names)}"
            raise Usage(f"{given}: the job has no such option; {hint}")
        if option.chart_value is not None:
            raise Usage(f"{given} is the same for all runs of the release; change it with helm: {option.chart_value}")
        if name in values:
            raise Usage(f"{given} is given twice")
        values[name] = value.strip()
    return values


def _normalized(name: str, text: str) -> str:
    value = parse(name, text.strip())
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)
