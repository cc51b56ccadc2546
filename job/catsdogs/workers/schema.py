"""JSON from a peer, checked against the Python type that it should have."""

import json
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def parse(data: bytes, expected: type[T]) -> T:
    """Return the value that `data` encodes as `expected`.

    `expected` is bool, int, float, str, a NamedTuple, or a list, dict (by str) or tuple (of fixed length) of such
    types; `object` is any JSON. JSON's arrays become the tuples that `expected` names. Raises ValueError for anything
    else.
    """
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    converted: T = _convert(value, expected)
    return converted


def _convert(value: Any, expected: Any) -> Any:
    origin, arguments = get_origin(expected), get_args(expected)
    # Not isinstance: a bool would be an int.
    if expected is object or type(value) is expected or (expected is float and type(value) is int):
        return value
    if origin is list and isinstance(value, list):
        return [_convert(item, arguments[0]) for item in value]
    if origin is dict and isinstance(value, dict):
        return {key: _convert(item, arguments[1]) for key, item in value.items()}
    if origin is tuple and isinstance(value, list):
        return tuple(_convert_items(value, arguments))
    if hasattr(expected, "_fields") and isinstance(value, list):
        return expected(*_convert_items(value, tuple(get_type_hints(expected).values())))
    raise ValueError(f"{repr(value)[:100]} is not of type {expected if origin else expected.__name__}")


def _convert_items(items: list[Any], expected: tuple[Any, ...]) -> list[Any]:
    if len(items) != len(expected):
        raise ValueError(f"{len(items)} values instead of {len(expected)}")
    return [_convert(item, type_of_item) for item, type_of_item in zip(items, expected, strict=True)]
