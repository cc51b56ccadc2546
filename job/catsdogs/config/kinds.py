"""The types of options' values that click does not have: addresses, names, durations, export formats."""

from typing import Any

import click

from catsdogs.config.extras import FORMATS
from catsdogs.runtime.errors import masked


class Address(click.ParamType[str]):
    """`s3://bucket/key` or a local path. With `needs_key`, an s3:// address of a bucket or a prefix is rejected."""

    name = "address"

    def __init__(self, needs_key: bool):
        self.needs_key = needs_key

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        scheme, separator, rest = value.partition("://")
        bucket, _, key = rest.partition("/")
        if separator and (scheme != "s3" or not bucket or (self.needs_key and key in ("", "/"))):
            self.fail(f"{masked(value)!r} is neither s3://bucket/key nor a local path", param, ctx)
        if self.needs_key and not separator:
            # A folder of images, as the shell completes it.
            value = value.rstrip("/") or value[:1]
        if not value or (self.needs_key and separator and value.endswith("/")):
            self.fail(f"{value!r} names no file", param, ctx)
        return value


class RunId(click.ParamType[str]):
    """A name that is safe as a folder and as a key."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
        if not value or len(value) > 100 or set(value) - allowed or value.startswith("."):
            self.fail(f"{value!r}: use up to 100 letters, digits, '-', '_' and '.', not '.' first", param, ctx)
        return value


class Duration(click.ParamType[float]):
    """Seconds, or a number with s, m or h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        unit = {"s": 1, "m": 60, "h": 3600}.get(value[-1:])
        try:
            seconds = float(value[:-1] if unit else value) * (unit or 1)
        except ValueError:
            self.fail(f"{value!r} is not a duration; write 90, 90s, 5m or 1h", param, ctx)
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r}: must be greater than 0", param, ctx)
        return seconds


class Formats(click.ParamType[tuple[str, ...]]):
    """Names of FORMATS, separated by commas; in the order of FORMATS, each once."""

    name = "formats"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = value.split(",") if value else []
        if unknown := [name for name in names if name not in FORMATS]:
            self.fail(f"{unknown[0]!r} is not one of {', '.join(FORMATS)}", param, ctx)
        return tuple(name for name in FORMATS if name in names)


COUNT = click.IntRange(min=1)
