"""The JSON documents that the job keeps, each with a number for its format.

A reader names the newest format that it knows. It reads older ones, and refuses newer ones rather than guess. It
trusts nothing else either: a document has at most so many bytes, and the keys and types that its reader names.
"""

import contextlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from catsdogs.runtime.errors import Changed, ConfigError
from catsdogs.storage import schema
from catsdogs.storage.store import Store

FORMAT = "format"
MAX_SIZE = 1 << 20
"""Bytes of a document, unless its reader names another bound."""
ATTEMPTS = 5
"""Reads of an object that others replace."""

T = TypeVar("T")


def dump(document: Mapping[str, Any], form: int | None = None) -> bytes:
    """Return the document as indented JSON, `form` its first key if given."""
    numbered = document if form is None else {FORMAT: form, **document}
    return (json.dumps(numbered, indent=2, default=str) + "\n").encode()


def load(data: bytes | str, newest: int, where: str, *, with_nan: bool = False) -> dict[str, Any]:
    """Return the JSON object in `data`, which came from `where`. What its keys hold is any JSON.

    A document without a number is of format 0. Raises ConfigError for a format above `newest`, and ValueError for
    anything that is not a JSON object with a number for its format, within the bounds of `schema`. It has no NaN and no
    infinity, which JSON does not have; NaN is read `with_nan`.
    """
    return load_as(dict[str, object], data, newest, where, with_nan=with_nan)


def load_as(expected: type[T], data: bytes | str, newest: int, where: str, *, with_nan: bool = False) -> T:
    """Return the JSON object in `data` as `expected`, a TypedDict or a dict. Raises what `load` raises."""
    document = schema.loads(data, with_nan=with_nan)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    check_format(document.get(FORMAT, 0), newest, where)
    converted: T = schema.convert(document, expected, with_nan=with_nan)
    return converted


def check_format(form: object, newest: int, where: str) -> None:
    """Raises ConfigError for a format above `newest`, ValueError for one that is not a number."""
    if type(form) is not int or not 0 <= form <= schema.MAX_INTEGER:
        raise ValueError("the number of its format is not one")
    if form > newest:
        raise ConfigError(
            f"{where}: written by a newer version of catsdogs-train (format {form}; this version reads formats up to"
            f" {newest}); use that version"
        )


def read_object(store: Store, key: str, max_bytes: int = MAX_SIZE) -> bytes:
    """Return the object's bytes. One that is replaced meanwhile is read again.

    Raises NotFound, ValueError if there are more than `max_bytes`, and Changed if it is replaced all the time.
    """
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(Changed):
            return _read_object(store, key, max_bytes)
    return _read_object(store, key, max_bytes)


def _read_object(store: Store, key: str, max_bytes: int) -> bytes:
    status = store.stat(key)
    if status.size > max_bytes:
        raise ValueError(f"larger than {max_bytes:,} bytes")
    data = bytearray()
    for chunk in store.stream(key, 0, status.size, status.etag):
        data += chunk
        if len(data) > max_bytes:
            raise ValueError(f"larger than {max_bytes:,} bytes")
    return bytes(data)
