"""The tables of README.md, made from the code by `make docs` and compared with it by `make check`."""

import json
import re
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import click

from job.cli import catsdogs
from job.errors import EXIT_CODES
from job.recipes import RECIPES
from kubectl_catsdogs.cli import plugin as kubectl

REPOSITORY = Path(__file__).parents[1]
RUNS = REPOSITORY / "benchmarks" / "runs"


def options(command: str = "run") -> str:
    """A row for each option of a command: flag, environment variable, meaning, default."""
    lines = ["| option | environment variable | meaning | default |", "|---|---|---|---|"]
    for parameter in catsdogs.commands[command].params:
        if not isinstance(parameter, click.Option):
            continue
        if isinstance(parameter.show_default, str):
            default = parameter.show_default
        elif parameter.required:
            default = "required"
        elif parameter.is_flag:
            default = "off"
        else:
            default = f"`{parameter.default}`" if isinstance(parameter.default, (str, int, float)) else ""
        if isinstance(parameter.type, click.Choice):
            choices = f" One of {', '.join(f'`{choice}`' for choice in parameter.type.choices)}."
        else:
            choices = ""
        lines.append(f"| `{parameter.opts[0]}` | `{parameter.envvar}` | {parameter.help}{choices} | {default} |")
    return "\n".join(lines)


def commands(group: click.Group = catsdogs, program: str = "catsdogs") -> str:
    """A row for each subcommand."""
    lines = ["| command | does |", "|---|---|"]
    for name, command in group.commands.items():
        summary = " ".join((command.help or "").split("\n\n")[0].split())
        lines.append(f"| `{program} {name}` | {summary} |")
    return "\n".join(lines)


def plugin() -> str:
    """The same of the kubectl plugin."""
    return commands(kubectl, "kubectl catsdogs")


def exit_codes() -> str:
    """A row for each exit code."""
    retry = {True: "yes", False: "no", None: ""}
    lines = ["| code | meaning | may a retry help? |", "|---|---|---|"]
    lines += [f"| {code} | {meaning} | {retry[helps]} |" for code, (meaning, helps) in EXIT_CODES.items()]
    return "\n".join(lines)


def recipes() -> str:
    """A row for the runs of benchmarks/runs that only their seed tells apart, in the order of the recipes.

    Parameters and operations are those of docs/recipes.md, CPU seconds those of benchmarks/runs/epochs.json.
    """
    cpu = _read("epochs.json")
    alike = defaultdict(list)
    for path in sorted(RUNS.glob("*/run.json")):
        alike[_options(_read(path)["settings"])].append(path.parent)
    lines = [
        "| `--recipe` | parameters | GFLOP an image | CPU seconds an epoch of 2,000 images | epochs | validation | test"
        " | 5,000 further ones | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for options, runs in sorted(alike.items(), key=lambda item: (list(RECIPES).index(item[0].split()[0]), item[0])):
        recipe, settings = options.split()[0], _read(runs[0] / "run.json")["settings"]
        metrics = [_read(run / "metrics.json") for run in runs]
        further = [_read(run / "further.json") for run in runs if (run / "further.json").exists()]
        cells = (
            f"`{options}`", *_size(recipe), f"{cpu[recipe]:.0f}", f"{settings['epochs']}",
            _accuracy([one["validation"] for one in metrics]), _accuracy([one["test"] for one in metrics]),
            _accuracy(further), f"{len(runs)}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _read(path: str | Path) -> Any:
    return json.loads((RUNS / path).read_text())


def _options(settings: dict[str, Any]) -> str:
    """The recipe, and the options that make it another one, as they are typed; not the seed."""
    recipe = RECIPES[settings["recipe_name"]]
    usual = {**asdict(recipe), "train_per_class": 1000, "validation_per_class": 500, "test_per_class": 500}
    given = (
        f" --{name.replace('_', '-')} {value}"
        for name, value in settings.items()
        if name not in ("archive", "recipe_name", "seed") and value != usual[name]
    )
    return recipe.name + "".join(given)


def _size(recipe: str) -> tuple[str, str]:
    """Parameters, and operations an image."""
    row = re.search(rf"^\| `{recipe}` \|.*", (REPOSITORY / "docs" / "recipes.md").read_text(), re.MULTILINE)
    assert row
    _, _, parameters, _, learning, _, using, _ = (cell.strip() for cell in row[0].split("|"))
    return parameters, learning if learning == using else f"{learning} in training, {using} in use"


def _accuracy(figures: list[dict[str, Any]]) -> str:
    """The mean, and the range if there are several."""
    if not figures:
        return ""
    shares = [100 * one["accuracy"] for one in figures]
    text = f"{mean(shares):.1f} %"
    if len(shares) > 1:
        text += f", {min(shares):.1f} to {max(shares):.1f} %"
    return text
