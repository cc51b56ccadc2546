"""JSON from peers: what has the expected type is converted, everything else is a ValueError."""

from typing import Any, NamedTuple

import pytest

from catsdogs.storage.schema import parse


class Pair(NamedTuple):
    name: str
    share: float


@pytest.mark.parametrize(
    ("data", "expected", "value"),
    [
        (b"true", bool, True),
        (b"3", int, 3),
        (b"3", float, 3),
        (b'"x"', str, "x"),
        (b'{"any": [null]}', object, {"any": [None]}),
        (b"[]", list[int], []),
        (b'[["cat", 3, "broken"]]', list[tuple[str, int, str]], [("cat", 3, "broken")]),
        (b'[["a", 0.5], ["b", 1]]', list[Pair], [Pair("a", 0.5), Pair("b", 1)]),
        (b'{"p": ["a", 1.5]}', dict[str, Pair], {"p": Pair("a", 1.5)}),
    ],
)
def test_what_has_the_type_is_converted(data: bytes, expected: Any, value: object) -> None:
    parsed = parse(data, expected)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", object),
        (b"\xff", str),
        (b"[" * 1_000_000, object),
        (b"9" * 10_000, int),
        (b"9223372036854775808", int),
        (b"-9223372036854775808", float),
        (b"NaN", float),
        (b"-Infinity", object),
        (b"1e999", float),
        (b'{"a": [1e999]}', object),
        (b"[" * 40 + b"]" * 40, object),
        (b'"\\ud83d"', str),
        (b'{"\\ud83d": 1}', object),
        (b'{"\\ud83d": 1}', dict[str, int]),
        (b"1", bool),
        (b"true", int),
        (b"1.5", int),
        (b"null", str),
        (b"{}", list[int]),
        (b"[]", dict[str, int]),
        (b'[1, "2"]', list[int]),
        (b'{"a": "b"}', dict[str, int]),
        (b'["a"]', Pair),
        (b'["a", 1, 2]', Pair),
        (b'[1, "a"]', Pair),
        (b'{"name": "a", "share": 1}', Pair),
        (b'[["cat", 3]]', list[tuple[str, int, str]]),
    ],
)
def test_everything_else_is_refused(data: bytes, expected: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(data, expected)


def test_reason_is_short() -> None:
    with pytest.raises(ValueError, match=r"is not of type") as caught:
        parse(b'"' + b"x" * 1_000_000 + b'"', list[int])
    assert len(str(caught.value)) < 200
