"""run.json and metrics.json, as this version and others write them."""

import json
from collections.abc import Callable
from typing import Any

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
    running_means = {"best_epoch": 1, "epochs": 1, "train": {"loss": float("nan"), "accuracy": 0.5}}
    validation, confusion = {"loss": 0.1, "accuracy": 0.5}, {"cat": {"cat": 1, "dog": 0}, "dog": {"cat": 0, "dog": 1}}
    test = {"loss": 0.1, "accuracy": 1.0, "images": 2, "correct": 2, "confusion": confusion}
    older: dict[str, Any] = {**running_means, "validation": validation, "test": test}
    assert not evaluates_train(load_metrics(json.dumps(older).encode(), "metrics.json"))
    newer = {"format": 1, **older, "train": {**older["train"], "images": 4, "correct": 2}}
    assert evaluates_train(load_metrics(json.dumps(newer).encode(), "metrics.json"))
    with pytest.raises(ValueError, match="images or correct is missing"):
        load_metrics(json.dumps({"format": 1, **older}).encode(), "metrics.json")
