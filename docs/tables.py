"""The tables of README.md and docs/, generated from the code by `make docs` and compared with it by `make check`."""

import ast
import json
import re
import sys
from collections import defaultdict
from configparser import ConfigParser
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import click

from catsdogs.cli import catsdogs
from catsdogs.config.recipes import RECIPES
from catsdogs.runtime.errors import EXIT_CODES
from kubectl_catsdogs.cli import plugin as kubectl

REPOSITORY = Path(__file__).parents[1]
RUNS = REPOSITORY / "benchmarks" / "runs"


def options(command: str = "run", *only: str) -> str:
    """Return a row for each option of a command, or for those in `only`: flag, variable, meaning, default."""
    lines = ["| option | environment variable | meaning | default |", "|---|---|---|---|"]
    for parameter in catsdogs.commands[command].params:
        if not isinstance(parameter, click.Option) or (only and parameter.opts[0] not in only):
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
    """Return a row for each subcommand: name, summary."""
    lines = ["| command | does |", "|---|---|"]
    for name, command in group.commands.items():
        summary = " ".join((command.help or "").split("\n\n")[0].split())
        lines.append(f"| `{program} {name}` | {summary} |")
    return "\n".join(lines)


def plugin() -> str:
    """Return a row for each subcommand of the kubectl plugin."""
    return commands(kubectl, "kubectl catsdogs")


def packages(distribution: str) -> str:
    """Return a row for each package of `job` or `k8s`, from top to bottom: what it owns, and its modules."""
    config = ConfigParser()
    config.read(REPOSITORY / distribution / ".importlinter")
    root = REPOSITORY / distribution / config["importlinter"]["root_package"]
    lines = ["| package | owns | modules |", "|---|---|---|"]
    for name in config["importlinter:contract:layers"]["layers"].replace("|", " ").split():
        package = root / name
        source = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
        docstring = (ast.get_docstring(ast.parse(source.read_text())) or "").partition("\n\n")[0]
        modules = " ".join(f"`{path.stem}`" for path in sorted(package.glob("*.py")) if path.stem != "__init__")
        lines.append(f"| `{name}` | {' '.join(docstring.split())} | {modules} |")
    return "\n".join(lines)


def pictures() -> str:
    """Return a row for each kind of image: what becomes of it, and the tests that show it."""
    # Installed packages have modules of this name too.
    sys.path.insert(0, str(REPOSITORY))
    from tests.documents.pictures import table

    return table()


def exit_codes() -> str:
    """Return a row for each exit code: code, meaning, whether a retry can help."""
    retry = {True: "yes", False: "no", None: ""}
    lines = ["| code | meaning | retryable |", "|---|---|---|"]
    lines += [f"| {code} | {meaning} | {retry[helps]} |" for code, (meaning, helps) in EXIT_CODES.items()]
    return "\n".join(lines)


def recipes() -> str:
    """Return a row for each group of runs in benchmarks/runs that differ only in their seed, in the order of RECIPES.

    Parameters and operations come from docs/recipes.md, CPU seconds from benchmarks/runs/epochs.json.
    """
    cpu = _read("epochs.json")
    groups = defaultdict(list)
    for path in sorted(RUNS.glob("*/run.json")):
        groups[_options(_read(path)["settings"])].append(path.parent)
    lines = [
        "| `--recipe` | parameters | GFLOP per image | CPU seconds per epoch of 2,000 images | epochs"
        " | validation accuracy | test accuracy | on 5,000 held-out images | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for options, runs in sorted(groups.items(), key=lambda item: (list(RECIPES).index(item[0].split()[0]), item[0])):
        recipe, settings = options.split()[0], _read(runs[0] / "run.json")["settings"]
        metrics = [_read(run / "metrics.json") for run in runs]
        held_out = [_read(run / "further.json") for run in runs if (run / "further.json").exists()]
        cells = (
            f"`{options}`", *_size(recipe), f"{cpu[recipe]:.0f}", f"{settings['epochs']}",
            _accuracy([run["validation"] for run in metrics]), _accuracy([run["test"] for run in metrics]),
            _accuracy(held_out), f"{len(runs)}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _read(path: str | Path) -> Any:
    return json.loads((RUNS / path).read_text())


def _options(settings: dict[str, Any]) -> str:
    """Return the recipe and the options that differ from its defaults, as typed, without the seed."""
    recipe = RECIPES[settings["recipe_name"]]
    defaults = {**asdict(recipe), "train_per_class": 1000, "validation_per_class": 500, "test_per_class": 500}
    given = (
        f" --{name.replace('_', '-')} {value}"
        for name, value in settings.items()
        if name not in ("archive", "recipe_name", "seed") and value != defaults[name]
    )
    return recipe.name + "".join(given)


def _size(recipe: str) -> tuple[str, str]:
    """Return the number of parameters and the GFLOP per image, as docs/recipes.md has them."""
    row = re.search(rf"^\| `{recipe}` \|.*", (REPOSITORY / "docs" / "recipes.md").read_text(), re.MULTILINE)
    assert row
    _, _, parameters, _, training, _, inference, _ = (cell.strip() for cell in row[0].split("|"))
    return parameters, training if training == inference else f"{training} in training, {inference} in inference"


def _accuracy(metrics: list[dict[str, Any]]) -> str:
    """Return the mean accuracy in percent, and the range if there are several runs; "" if there are none."""
    if not metrics:
        return ""
    percentages = [100 * run["accuracy"] for run in metrics]
    text = f"{mean(percentages):.1f} %"
    if len(percentages) > 1:
        text += f", {min(percentages):.1f} to {max(percentages):.1f} %"
    return text
