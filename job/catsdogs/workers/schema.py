"""JSON from a peer, checked against the Python type that it should have."""

import json
import math
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from catsdogs.runtime.errors import masked

T = TypeVar("T")

MAX_DEPTH = 32
"""Levels of JSON's arrays and objects in each other."""
MAX_INTEGER = 2**63


def parse(data: bytes, expected: type[T]) -> T:
    """Return the value that `data` encodes as `expected`.

    `expected` is bool, int, float, str, a NamedTuple, or a list, dict (by str) or tuple (of fixed length) of such
    types; `object` is any JSON. JSON's arrays become the tuples that `expected` names. Numbers are finite, and integers
    below MAX_INTEGER; text can be encoded. Raises ValueError for anything else.
    """
    try:
        value = json.loads(data, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    converted: T = _convert(value, expected, MAX_DEPTH)
    return converted


def _convert(value: Any, expected: Any, depth: int) -> Any:
    origin, arguments = get_origin(expected), get_args(expected)
    if isinstance(value, list | dict) and not depth:
        raise ValueError("nested too deeply")
    if expected is object:
        if isinstance(value, list):
            return [_convert(item, object, depth - 1) for item in value]
        if isinstance(value, dict):
            return {_checked(key): _convert(item, object, depth - 1) for key, item in value.items()}
        return _checked(value)
    # Not isinstance: a bool would be an int.
    if type(value) is expected or (expected is float and type(value) is int):
        return _checked(value)
    if origin is list and isinstance(value, list):
        return [_convert(item, arguments[0], depth - 1) for item in value]
    if origin is dict and isinstance(value, dict):
        return {_checked(key): _convert(item, arguments[1], depth - 1) for key, item in value.items()}
    if origin is tuple and isinstance(value, list):
        return tuple(_convert_items(value, arguments, depth))
    if hasattr(expected, "_fields") and isinstance(value, list):
        return expected(*_convert_items(value, tuple(get_type_hints(expected).values()), depth))
    shown = masked(repr(value))[:100]
    raise ValueError(f"{shown} is not of type {expected if origin else expected.__name__}")


def _convert_items(items: list[Any], expected: tuple[Any, ...], depth: int) -> list[Any]:
    if len(items) != len(expected):
        raise ValueError(f"{len(items)} values instead of {len(expected)}")
    return [_convert(item, type_of_item, depth - 1) for item, type_of_item in zip(items, expected, strict=True)]


def _checked(value: Any) -> Any:
    """Return a text, number, bool or None. Raises ValueError for those that Python's json takes and others do not."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that is not finite")
    if isinstance(value, int) and abs(value) >= MAX_INTEGER:
        raise ValueError("an integer of more than 64 bits")
    if isinstance(value, str):
        # Raises UnicodeEncodeError, a ValueError, for half a character.
        value.encode()
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
