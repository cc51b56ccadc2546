"""`kubectl_complete-catsdogs`, which kubectl's shell completion asks for completions of `kubectl catsdogs`."""

import sys

import click
from click.shell_completion import ShellComplete

from kubectl_catsdogs.cli import PROGRAM, VARIABLE, plugin

NO_FILES = ":4"
"""Cobra's directive, in the last line, not to complete file names."""


def main() -> None:
    """Its arguments are the words so far; the last one may be incomplete or empty."""
    *words, incomplete = sys.argv[1:] or [""]
    for item in ShellComplete(plugin, {}, PROGRAM, VARIABLE).get_completions(words, incomplete):
        if item.type == "plain":
            click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(NO_FILES)
