"""The tables of README.md, made from the code by `make docs` and compared with it by `make check`."""

import click

from job.cli import catsdogs
from job.errors import EXIT_CODES
from k8s.cli import plugin as kubectl


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
