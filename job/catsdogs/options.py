"""The command line's options: those of a run, made from the fields of Settings, and what several commands share."""

import functools
import os
from collections.abc import Callable, Collection, Iterable
from typing import Any

import click

from catsdogs import help
from catsdogs.config import settings
from catsdogs.config.option import Group, Option, variable
from catsdogs.config.recipes import RECIPES

Decorator = Callable[[Any], Any]
LOG_FORMAT = Option(
    group=Group.INPUT_OUTPUT,
    type=click.Choice(["text", "json", "mixed"]),
    help="Format of standard output: lines of text, of JSON, or both.",
    default="text",
    chart_value="logFormat",
)
OPTIONS = {**settings.OPTIONS, "log_format": LOG_FORMAT}
"""The options of a run: parameter of the command → option."""


def option(name: str, *parameter: str, **attributes: Any) -> Decorator:
    """Return a click option that is an environment variable as well: --run-id is CATSDOGS_RUN_ID."""
    attributes.setdefault("show_default", "default" in attributes)
    return click.option(name, *parameter, cls=help.Option, envvar=variable(name), show_envvar=True, **attributes)


def options_of(names: Collection[str]) -> Decorator:
    """Return a decorator that adds these options of a run to a command, in the order of the help's groups."""
    order = list(Group)
    chosen = sorted(names, key=lambda name: order.index(OPTIONS[name].group))
    return decorators(_click_option(name, OPTIONS[name]) for name in chosen)


def decorators(options: Iterable[Decorator]) -> Decorator:
    """Return one decorator that adds all options, the first one first."""
    in_order = list(options)
    return lambda function: functools.reduce(lambda so_far, option: option(so_far), reversed(in_order), function)


STORAGE = [name for name, entry in OPTIONS.items() if entry.group is Group.STORAGE]
WORKERS = [name for name, entry in OPTIONS.items() if entry.group is Group.WORKERS]


def _click_option(parameter: str, entry: Option) -> Decorator:
    name = "--" + (entry.name or parameter).replace("_", "-")
    attributes: dict[str, Any] = {
        "help": entry.help,
        "group": entry.group.value,
        "metavar": entry.metavar,
        "required": entry.required,
    }
    if entry.type is click.BOOL:
        return option(name, parameter, is_flag=True, **attributes)
    if entry.from_recipe:
        values = ", ".join(f"{recipe.name} {getattr(recipe, parameter):g}" for recipe in RECIPES.values())
        attributes["show_default"] = values
    elif entry.default_text is not None:
        attributes["show_default"] = entry.default_text
    elif entry.default is not None:
        attributes["default"] = entry.default
    return option(name, parameter, type=entry.type, **attributes)


def own_index(workers: int, index: int | None) -> int:
    """Return this worker's index: as given, or as Kubernetes numbers the pods of an Indexed Job. Raises UsageError."""
    if index is None and workers > 1:
        number = os.environ.get("JOB_COMPLETION_INDEX", "0")
        if not number.isdecimal() or len(number) > 9:
            raise click.UsageError(f"JOB_COMPLETION_INDEX {number!r} is not a number; use --worker-index")
        index = int(number)
    if (index or 0) >= workers:
        raise click.UsageError(f"--worker-index {index}: must be below --workers, which is {workers}")
    return index or 0
