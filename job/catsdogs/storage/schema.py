"""JSON that others may have written, checked against the Python type that it should have.

A type is bool, int, float, str, None, a Literal, a union, a list, a dict by str, a tuple of fixed length, a NamedTuple
(an array of its fields), a TypedDict (an object with its keys), or `object`, which is any JSON. Annotated adds Checks.

Whatever the bytes are, they are read within bounds, and the only exception is ValueError.
"""

import json
import re
import reprlib
from collections.abc import Callable, Iterable
from functools import cache
from math import isfinite, isnan
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from catsdogs.runtime.errors import masked

T = TypeVar("T")

_SHA256 = re.compile("[0-9a-f]{64}")

MAX_BYTES = 64 << 20
"""Of one document, whatever its reader allows."""
MAX_VALUES = 1 << 21
"""Values in one document. split.json has five for each image, and no archive has more than 280,000 images."""
MAX_DEPTH = 32
"""Arrays and objects within each other, where the type does not say."""
MAX_INTEGER = 2**63 - 1
MAX_TEXT = 1 << 16
"""Characters of one string: a zip's names have no more."""


def parse(data: bytes | str, expected: type[T], *, with_nan: bool = False) -> T:
    """Return the value that `data`, JSON in UTF-8, encodes as `expected`. Raises ValueError: where, and what is wrong.

    JSON's arrays become the tuples that `expected` names. Numbers are finite and of at most 64 bits; NaN, which JSON
    does not have, is read as a float `with_nan`. No object has a key twice.
    """
    converted: T = convert(loads(data, with_nan=with_nan), expected, with_nan=with_nan)
    return converted


def loads(data: bytes | str, *, with_nan: bool = False) -> Any:
    """Return the value that `data` encodes, its size bounded, its numbers and texts unchecked. Raises ValueError."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES:,} bytes")
    # Commas and brackets in texts count too, which no document of ours has many of.
    marks: tuple[Any, ...] = ("[", "{", ",") if isinstance(data, str) else (b"[", b"{", b",")
    if sum(map(data.count, marks)) > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES:,} values")
    try:
        # Decoded here, because json guesses the encoding of bytes.
        text = data if isinstance(data, str) else data.decode("utf-8")
        return json.loads(text, parse_constant=_nan if with_nan else _refuse, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except MemoryError:
        raise ValueError("too large for this machine's memory") from None
    except ValueError as error:
        # Python's own words advise its programmer.
        if "set_int_max_str_digits" in str(error):
            raise ValueError("an integer of thousands of digits") from None
        raise


def convert(value: Any, expected: Any, *, with_nan: bool = False) -> Any:
    """Return a value that `loads` gave as `expected`. Raises what `parse` raises."""
    return _convert(value, expected, with_nan, "")


class Check(NamedTuple):
    """What Annotated adds to a type: whether a value is accepted, and what is wrong with one that is not."""

    accepts: Callable[[Any], bool]
    failure: str


def at_least(least: float) -> Check:
    """Return the check of a number that is not below `least`; NaN is not."""
    return Check(lambda value: not value < least, f"below {least}")


def within(least: float, most: float) -> Check:
    """Return the check of a number from `least` to `most`."""
    return Check(lambda value: least <= value <= most, f"not from {least} to {most}")


def at_most(characters: int) -> Check:
    """Return the check of a text of at most so many characters."""
    return Check(lambda value: len(value) <= characters, f"longer than {characters} characters")


Count = Annotated[int, at_least(0)]
Number = Annotated[float, at_least(0)]
Share = Annotated[float, within(0, 1)]
Sha256 = Annotated[str, Check(lambda text: _SHA256.fullmatch(text) is not None, "no SHA-256")]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _nan(constant: str) -> float:
    if constant != "NaN":
        _refuse(constant)
    return float("nan")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is there twice")
    return made


def _convert(value: Any, expected: Any, with_nan: bool, where: str) -> Any:
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is Annotated:
        converted = _convert(value, arguments[0], with_nan, where)
        for check in arguments[1:]:
            if not check.accepts(converted):
                raise _wrong(where, f"{reprlib.repr(value)[:100]} is {check.failure}")
        return converted
    if origin in (NotRequired, Required):
        return _convert(value, arguments[0], with_nan, where)
    if expected is object or expected is Any:
        _check_any(value, with_nan, where)
        return value
    if origin in (Union, UnionType):
        return _convert_union(value, arguments, with_nan, where)
    if origin is Literal:
        # Not `in`: True would be 1.
        if any(type(value) is type(choice) and value == choice for choice in arguments):
            return value
    elif expected in (bool, int, float, str, NoneType, None):
        if _is_scalar(value, expected):
            return _scalar(value, with_nan, where)
    elif origin is list:
        if isinstance(value, list):
            return [_convert(item, arguments[0], with_nan, f"{where}[{i}]") for i, item in enumerate(value)]
    elif origin is dict:
        if isinstance(value, dict):
            return {
                _convert(key, arguments[0], with_nan, where): _convert(
                    item, arguments[1], with_nan, f"{where}.{_short(key)}"
                )
                for key, item in value.items()
            }
    elif origin is tuple:
        if isinstance(value, list):
            return tuple(_convert_items(value, arguments, with_nan, where))
    elif is_typeddict(expected):
        if isinstance(value, dict):
            return _convert_keys(value, expected, with_nan, where)
    elif hasattr(expected, "_fields") and isinstance(value, list):
        return expected(*_convert_items(value, tuple(_hints(expected).values()), with_nan, where))
    raise _wrong(where, f"{reprlib.repr(value)[:100]} is not of type {expected if origin else expected.__name__}")


def _convert_union(value: Any, choices: Iterable[Any], with_nan: bool, where: str) -> Any:
    # An int is a float too: of the choices, the one that needs no conversion comes first.
    scalars = [choice for choice in choices if choice in (NoneType, None, bool, int, float, str)]
    for choice in sorted(scalars, key=lambda choice: type(value) is not choice):
        if _is_scalar(value, choice):
            return _scalar(value, with_nan, where)
    error = _wrong(where, f"{reprlib.repr(value)[:100]} is of another type")
    for choice in choices:
        if choice not in scalars:
            try:
                return _convert(value, choice, with_nan, where)
            except ValueError as reason:
                error = reason
    raise error


def _convert_keys(value: dict[str, Any], expected: Any, with_nan: bool, where: str) -> dict[str, Any]:
    """Keys that the type does not name are passed on: a later version of the same format may add some."""
    for name in expected.__required_keys__:
        if name not in value:
            raise _wrong(where, f"{name} is missing")
    hints = _hints(expected)
    converted = {}
    for key, item in value.items():
        converted[key] = _convert(item, hints.get(key, object), with_nan, f"{where}.{_short(key)}")
    return converted


def _convert_items(items: list[Any], expected: tuple[Any, ...], with_nan: bool, where: str) -> list[Any]:
    if len(items) != len(expected):
        raise _wrong(where, f"{len(items)} values instead of {len(expected)}")
    return [
        _convert(item, kind, with_nan, f"{where}[{i}]")
        for i, (item, kind) in enumerate(zip(items, expected, strict=True))
    ]


def _is_scalar(value: Any, expected: Any) -> bool:
    # Not isinstance: a bool would be an int.
    return value is None if expected is None else type(value) is expected or (expected is float and type(value) is int)


def _scalar(value: Any, with_nan: bool, where: str) -> Any:
    kind = type(value)
    if kind is int and not -MAX_INTEGER <= value <= MAX_INTEGER:
        # Not the number: Python refuses to write it out.
        raise _wrong(where, "the number has more than 64 bits")
    # 1e999 is JSON, and infinite.
    if kind is float and not isfinite(value) and not (with_nan and isnan(value)):
        raise _wrong(where, f"{value} is not finite")
    if kind is str and len(value) > MAX_TEXT:
        raise _wrong(where, f"the text is longer than {MAX_TEXT:,} characters")
    if kind is str and not value.isascii():
        try:
            # Half of a character is none, but Python has those in the names of files that are not UTF-8.
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise _wrong(where, "the text has half of a character") from None
    return value


def _check_any(value: Any, with_nan: bool, where: str, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise _wrong(where[:100], "nested too deeply")
    if isinstance(value, dict):
        for key, item in value.items():
            _scalar(key, with_nan, where)
            _check_any(item, with_nan, where, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_any(item, with_nan, where, depth + 1)
    else:
        _scalar(value, with_nan, where)


@cache
def _hints(expected: Any) -> dict[str, Any]:
    return get_type_hints(expected, include_extras=True)


def _short(key: str) -> str:
    return key if key.isidentifier() and len(key) <= 40 else reprlib.repr(key)


def _wrong(where: str, what: str) -> ValueError:
    return ValueError(masked(f"{where.removeprefix('.')}: {what}" if where else what))
