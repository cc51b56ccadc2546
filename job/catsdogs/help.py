"""The look of `--help`: options in groups, commands in the order of work, whole sentences, colours on a terminal."""

import os
import textwrap
from collections.abc import Iterable
from typing import Any

import click

MAX_WIDTH = 110
_INDENT, _GAP = 2, 2
COLOR = False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None
"""False for no colours; None for colours if the stream is a terminal."""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH, "color": COLOR}


Row = tuple[str, str, str]
"""Name, text, and a note on the text."""


class Option(click.Option):
    """An option that `--help` shows below its group's heading."""

    def __init__(self, *args: Any, group: str = "Options", **attributes: Any):
        super().__init__(*args, **attributes)
        self.group = group

    def row(self) -> Row:
        """Return name and placeholder, help, and what else to know of the value."""
        placeholder = "" if self.is_flag else f" {self.metavar or _PLACEHOLDERS.get(self.type.name, 'TEXT')}"
        return ", ".join(self.opts) + placeholder, self.help or "", self._note()

    def _note(self) -> str:
        """Return choices, bounds and default. What is short stays on one line, by non-breaking spaces."""
        notes = []
        if isinstance(self.type, click.Choice):
            notes.append(", ".join(self.type.choices))
        if isinstance(self.type, (click.IntRange, click.FloatRange)) and self.type.max is not None:
            notes.append(f"{'above ' if self.type.min_open else ''}{self.type.min} to {self.type.max}")
        if self.required:
            notes.append("required")
        elif isinstance(self.show_default, str):
            notes.append(f"default: {self.show_default}")
        elif self.show_default and not self.is_flag:
            notes.append(f"default: {self.default}")
        return "; ".join(note.replace(" ", "\xa0") if len(note) < 40 else note for note in notes)


_PLACEHOLDERS = {
    "address": "ADDRESS", "choice": "NAME", "directory": "FOLDER", "duration": "TIME", "file": "FILE",
    "float range": "NUMBER", "formats": "FORMATS", "integer range": "N", "name": "NAME", "text": "TEXT",
}  # fmt: skip
"""By the name of click's type."""


class Command(click.Command):
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[Row]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, Option):
                groups.setdefault(parameter.group, []).append(parameter.row())
            elif isinstance(parameter, click.Option):
                groups.setdefault("Help", []).append((", ".join(parameter.opts), parameter.help or "", ""))
        column = max(len(name) for rows in groups.values() for name, *_ in rows)
        for title, rows in groups.items():
            _write(formatter, title, rows, column)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        formatter.write_text("Options can also be set by environment variables: --run-id is CATSDOGS_RUN_ID.")


class Group(click.Group):
    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they were added."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The first line of each help text, whole.
        commands = [(name, (command.help or "").partition("\n")[0], "") for name, command in self.commands.items()]
        options = [
            (", ".join(option.opts), option.help or "", "")
            for option in self.get_params(ctx)
            if isinstance(option, click.Option)
        ]
        column = max(len(name) for name, *_ in commands + options)
        _write(formatter, "Commands", commands, column)
        _write(formatter, "Options", options, column)


def _write(formatter: click.HelpFormatter, title: str, rows: Iterable[Row], column: int) -> None:
    """Write a heading, and below it two columns: name, and text with its note in brackets."""
    formatter.write_paragraph()
    formatter.write(click.style(f"{title}:", bold=True) + "\n")
    indent = _INDENT + column + _GAP
    for name, text, note in rows:
        lines = textwrap.wrap(f"{text}  [{note}]" if note else text, formatter.width - indent, break_on_hyphens=False)
        block = ("\n" + " " * indent).join(lines).replace("\xa0", " ")
        if note:
            before, _, inside = block.rpartition("[")
            block = before + click.style("[" + inside, dim=True)
        padding = " " * (column - len(name) + _GAP)
        formatter.write(f"{' ' * _INDENT}{click.style(name, fg='cyan')}{padding}{block}\n")
