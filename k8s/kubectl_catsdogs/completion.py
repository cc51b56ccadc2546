"""`kubectl_complete-catsdogs`: kubectl's shell completion asks it what may follow `kubectl catsdogs`."""

import sys

import click
from click.shell_completion import ShellComplete

from kubectl_catsdogs.cli import PROGRAM, VARIABLE, plugin

NO_FILES = ":4"
"""Cobra's directive, in the last line, that files are no answer."""


def main() -> None:
    """Its arguments are the words so far, the last of which may be unfinished or empty."""
    *words, unfinished = sys.argv[1:] or [""]
    for item in ShellComplete(plugin, {}, PROGRAM, VARIABLE).get_completions(words, unfinished):
        if item.type == "plain":
            click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(NO_FILES)
