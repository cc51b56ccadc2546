"""What there is to know of an option of the job. The table of options is the fields of `settings.Settings`."""

import enum
from dataclasses import dataclass
from typing import Any

import click


class Group(enum.Enum):
    """The headings of `--help`, in its order."""

    INPUT_OUTPUT = "Input and output"
    RECIPE = "Recipe"
    SPLIT = "Split"
    TRAINING = "Training"
    STORAGE = "Storage"
    WORKERS = "Workers"


def variable(name: str) -> str:
    """Return the environment variable of an option: that of --run-id, or of the field run_id, is CATSDOGS_RUN_ID."""
    return "CATSDOGS_" + name.removeprefix("--").upper().replace("-", "_")


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of the command line, and the environment variable that belongs to it."""

    group: Group
    type: click.ParamType[Any]
    help: str
    name: str | None = None
    """Without the leading `--`; None if it is the field's name."""
    metavar: str | None = None
    """What stands for the value in the help; None if it follows from the type."""
    required: bool = False
    default: str | int | bool | None = None
    """As typed on the command line."""
    default_text: str | None = None
    """What the help shows instead of the default."""
    from_recipe: bool = False
    """The default is the recipe's attribute of the same name."""
    decides_model: bool = False
    """The value decides which model comes out, so it is part of the run id."""
    chart_value: str | None = None
    """The chart's value that sets the option for all runs of a release; None if each run may set its own."""

    def default_value(self) -> Any:
        """Return the default, converted as if it had been typed; None if there is none."""
        return None if self.default is None else self.type.convert(self.default, None, None)
