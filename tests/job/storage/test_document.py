import json

import pytest

from catsdogs.runtime.errors import ConfigError
from catsdogs.storage import document


def test_a_document_reads_back_with_its_format() -> None:
    assert document.load(document.dump({"a": 1}, 3), 3, "x.json") == {"format": 3, "a": 1}


def test_an_older_format_is_read_and_one_without_a_number() -> None:
    assert document.load(document.dump({"a": 1}, 2), 3, "x.json")["format"] == 2
    assert document.load(document.dump({"a": 1}), 3, "x.json") == {"a": 1}


def test_a_newer_format_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^x\.json: written by a newer version of catsdogs-train \(format 4; .* 3\)"):
        document.load(document.dump({"a": 1}, 4), 3, "x.json")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"1", b"null", b'{"format": "1"}', b'{"format": true}', b'{"format": -1}', b'{"format": 1.5}',
        b'{"format": null}', b'{"a": NaN}', b'{"a": -Infinity}', b"\xff", b"[" * 100_000,
        json.dumps({"a": 1}).encode()[:-1],
    ],
)  # fmt: skip
def test_anything_else_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        document.load(data, 3, "x.json")
