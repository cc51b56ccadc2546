"""run.json and metrics.json, as this version and others write them."""

from collections.abc import Callable

import pytest

from catsdogs.results.documents import evaluates_train, load_metrics, load_run
from catsdogs.runtime.errors import ConfigError


@pytest.mark.parametrize("load", [load_run, load_metrics])
def test_a_newer_format_is_refused_by_name(load: "Callable[[bytes, str], object]") -> None:
    with pytest.raises(ConfigError, match=r"^x\.json: written by a newer version of catsdogs-train \(format 2"):
        load(b'{"format": 2}', "x.json")


@pytest.mark.parametrize("load", [load_run, load_metrics])
@pytest.mark.parametrize("data", [b"", b"[]", b'{"format": -1}', b'{"format": "1"}', b"\xff", b"[" * 100_000])
def test_anything_else_is_a_value_error(load: "Callable[[bytes, str], object]", data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        load(data, "x.json")


def test_only_older_versions_have_running_means() -> None:
    assert not evaluates_train(load_metrics(b'{"train": {"loss": NaN}}', "metrics.json"))
    assert evaluates_train(load_metrics(b'{"format": 1}', "metrics.json"))
