"""The JSON documents that the job keeps, each with a number for its format.

A reader names the newest format that it knows. It reads older ones, and refuses newer ones rather than guess.
"""

import json
from collections.abc import Mapping
from typing import Any

from catsdogs.runtime.errors import ConfigError

FORMAT = "format"


def dump(document: Mapping[str, Any], form: int | None = None) -> bytes:
    """Return the document as indented JSON, `form` its first key if given."""
    numbered = document if form is None else {FORMAT: form, **document}
    return (json.dumps(numbered, indent=2, default=str) + "\n").encode()


def load(data: bytes | str, newest: int, where: str, *, with_nan: bool = False) -> dict[str, Any]:
    """Return the JSON object in `data`, which came from `where`.

    A document without a number is of format 0. Raises ConfigError for a format above `newest`, and ValueError for
    anything that is not a JSON object with a number for its format, or has NaN or infinity, which JSON does not have;
    these are read `with_nan`.
    """
    try:
        document = json.loads(data, parse_constant=None if with_nan else _refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    check_format(document.get(FORMAT, 0), newest, where)
    return document


def check_format(form: object, newest: int, where: str) -> None:
    """Raises ConfigError for a format above `newest`, ValueError for one that is not a number."""
    if not isinstance(form, int) or isinstance(form, bool) or form < 0:
        raise ValueError(f"{form!r} is not the number of a format")
    if form > newest:
        raise ConfigError(
            f"{where}: written by a newer version of catsdogs-train (format {form}; this version reads formats up to"
            f" {newest}); use that version"
        )


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
