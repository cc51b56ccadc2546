"""What a run's log says about its starts, whatever is in it."""

import json
from datetime import UTC, datetime

import pytest

from catsdogs.results.job_log import before_training, newest_start


def test_time_before_the_training_is_read_from_the_log() -> None:
    lines = [
        '{"event": "started"}', '{"event": "unpacked", "seconds": 30.5}', '{"event": "split", "seconds": 12}',
        '{"event": "epoch", "seconds": 400}', '{"event": "unpacked", "sec', "", "[]", '{"event": "split"}',
        '{"event": "started"}', '{"event": "split-reused", "seconds": 0.5}',
    ]  # fmt: skip
    assert before_training(lines) == {"starts": 2, "preparing": 43.0}


def line(event: str, minute: int, **fields: object) -> str:
    return json.dumps({"time": f"2026-11-29T02:{minute:02}:00.000+00:00", "event": event, "text": event, **fields})


def at(minute: int) -> datetime:
    return datetime(2026, 11, 29, 2, minute, tzinfo=UTC)


def test_the_newest_start_counts() -> None:
    failed = line("failed", 2, exit_code=65, error="a.zip: not a zip")
    lines = [line("started", 1, host="pod-a"), failed]
    start = newest_start(lines)
    assert start is not None
    assert (start.began, start.host, start.last, start.exit_code) == (at(1), "pod-a", at(2), 65)
    assert (start.text, start.interrupted) == ("a.zip: not a zip", False)
    start = newest_start([*lines, line("started", 3), line("epoch", 4)])
    assert start is not None
    assert (start.began, start.host, start.last, start.text, start.exit_code) == (at(3), None, at(4), "epoch", None)
    start = newest_start([*lines, line("started", 3), line("failed", 5, exit_code=75, error="SIGTERM")])
    assert start is not None
    assert start.interrupted


@pytest.mark.parametrize(
    "damaged",
    [
        "", "{", "[]", "1", "[" * 100_000, '{"event": 1}', '{"time": "2026-11-29T02:01:00+00:00"}',
        '{"event": "a", "time": 3}', '{"event": "a", "time": "yesterday"}',
        '{"event": "a", "time": "2026-11-29T02:01:00"}',
        '{"event": "a", "time": "0001-01-01T00:00:00+23:59"}',
    ],
)  # fmt: skip
def test_lines_of_no_event_are_skipped(damaged: str) -> None:
    assert newest_start([damaged]) is None
    before_training([damaged, '{"event": "split", "seconds": ' + "9" * 400 + "}"])


def test_a_log_cannot_write_lines_of_its_own() -> None:
    start = newest_start([line("failed", 1, exit_code="65", error="a\n\x1b[2Jb")])
    assert start is not None
    assert (start.text, start.exit_code) == (r"a\n\x1b[2Jb", None)
