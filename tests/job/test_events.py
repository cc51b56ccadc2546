import ast
import io
import json
import re
import string
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from job import events
from job.events import EVENTS, PROGRESS, JsonLines, Log, Terminal, TextLines, duration_text, size_text, text_of

HOSTILE = "cat.1.jpg\r\x1b[2Kall is well\nand more\x85\u2028"


def names(event: str) -> set[str]:
    """Of the data that the event's text is made from."""
    return {name for _, name, _, _ in string.Formatter().parse(EVENTS[event]) if name is not None}


def data_for(event: str) -> dict[str, Any]:
    return {name: number for number, name in enumerate(sorted(names(event)), start=1)}


def said() -> list[tuple[str, set[str] | None]]:
    """Each event that the job says, and the names of its data where they stand there."""
    calls = [
        node
        for path in Path(events.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "say"
    ]
    found: list[tuple[str, set[str] | None]] = []
    for call in calls:
        given = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
        event = ast.literal_eval(call.args[0])
        found.append((event, given if len(given) == len(call.keywords) else None))
    return found


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_has_a_text_of_one_line(event: str) -> None:
    text = text_of(event, data_for(event))
    assert text.isprintable()
    assert not set(text) & set("{}")


def test_every_event_is_said_somewhere_with_all_its_data() -> None:
    assert {event for event, _ in said()} | {"failed"} == set(EVENTS)
    for event, given in said():
        assert given is None or given >= names(event), event


def test_progress_is_what_can_be_shown_as_a_bar() -> None:
    assert {event for event in EVENTS if names(event) >= {"done", "total"}} == PROGRESS


@pytest.mark.parametrize("event", EVENTS)
def test_both_forms_say_the_same(event: str) -> None:
    text, lines = io.StringIO(), io.StringIO()
    data = data_for(event)
    TextLines(text).show(event, data)
    JsonLines(lines).show(event, data)
    line = json.loads(lines.getvalue())
    assert text.getvalue().partition(" ")[2] == text_of(event, data) + "\n"
    assert line == {"time": line["time"], "event": event, "text": text_of(event, data), **data}


def test_a_name_cannot_forge_a_line() -> None:
    text, lines = io.StringIO(newline=""), io.StringIO(newline="")
    for sink in (TextLines(text), JsonLines(lines)):
        sink.show("quarantined", {"member": HOSTILE, "reason": "empty"})
    assert text.getvalue().isascii()
    assert r"left out cat.1.jpg\r\x1b[2Kall is well\nand more" in text.getvalue()
    for stream in (text, lines):
        assert stream.getvalue().splitlines(keepends=True) == [stream.getvalue()]
        assert "\r" not in stream.getvalue()
    assert json.loads(lines.getvalue())["member"] == HOSTILE


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_has_no_number_for_is_null(value: float) -> None:
    lines = io.StringIO()
    JsonLines(lines).show("training", {**data_for("training"), "loss": value})
    line = json.loads(lines.getvalue(), parse_constant=pytest.fail)
    assert line["loss"] is None
    assert f"loss {value}" in line["text"]


def test_json_takes_whatever_has_a_text() -> None:
    lines = io.StringIO()
    JsonLines(lines).show("resumed", {**data_for("resumed"), "checkpoint": Path("/data/1.npz")})
    assert json.loads(lines.getvalue())["checkpoint"] == "/data/1.npz"


class Watching:
    """A sink that remembers how far things had come."""

    def __init__(self, interval: float):
        self.interval = interval
        self.shown: list[int] = []

    def show(self, event: str, data: dict[str, Any]) -> None:
        self.shown.append(data.get("done", -1))


def say_and_fail(log: Log) -> None:
    log.say("already-trained", run_id="within")
    raise ZeroDivisionError("by\nzero")


class TestLog:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
        """The log's own; it stands still."""
        clock = SimpleNamespace(now=100.0)
        monkeypatch.setattr(events, "time", SimpleNamespace(monotonic=lambda: clock.now))
        return clock

    def test_progress_is_shown_at_each_sinks_own_pace(self, clock: SimpleNamespace) -> None:
        slow, fast, all_of_it = sinks = [Watching(5), Watching(1), Watching(0)]
        log = Log(sinks)
        for done in range(12):
            log.say("evaluating", done=done, total=12)
            clock.now += 1
        assert slow.shown == [5, 10]
        assert fast.shown == list(range(1, 12))
        assert all_of_it.shown == list(range(12))

    def test_anything_else_is_shown_at_once_and_stands_for_progress(self, clock: SimpleNamespace) -> None:
        sink = Watching(5)
        log = Log([sink])
        log.say("already-trained", run_id="r")
        clock.now += 4
        log.say("evaluating", done=1, total=2)
        clock.now += 1
        log.say("evaluating", done=2, total=2)
        assert sink.shown == [-1, 2]

    def test_due_tells_whether_progress_would_be_shown(self, clock: SimpleNamespace) -> None:
        log = Log([Watching(5), Watching(60)])
        assert not log.due()
        clock.now += 5
        assert log.due()
        log.say("evaluating", done=1, total=2)
        assert not log.due()
        assert not Log([]).due()

    def test_a_record_has_what_was_said_meanwhile_and_what_ended_it(self) -> None:
        sink, record = Watching(0), io.StringIO()
        log = Log([sink])
        log.say("already-trained", run_id="before")
        with pytest.raises(ZeroDivisionError), log.recorded_in(record):
            say_and_fail(log)
        log.say("already-trained", run_id="after")
        lines = [json.loads(line) for line in record.getvalue().splitlines()]
        assert [line["event"] for line in lines] == ["already-trained", "failed"]
        assert lines[0]["run_id"] == "within"
        assert (lines[1]["exit_code"], lines[1]["error"]) == (1, "by\nzero")
        assert len(sink.shown) == 3


HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_takes_its_bar_back_before_it_says_more() -> None:
    screen = Screen(newline="")
    terminal = Terminal(screen)
    for done in (1, 2):
        terminal.show("evaluating", {"done": done, "total": 2})
    terminal.show("already-trained", {"run_id": "r"})
    bar, text = screen.getvalue().split(Terminal.ERASED)
    assert bar.count("\r") >= 2
    assert re.search("evaluating .* 100%", bar.rpartition("\r")[2])
    assert Terminal.ERASED.endswith(SHOW_CURSOR)
    assert HIDE_CURSOR not in text
    assert text.endswith("run r is already trained on this volume\n")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (999_949_999, "999.9 MB"),
        (999_950_000, "1.00 GB"),
        (852_000_000, "852.0 MB"),
        (1_500_000_000_000, "1500.00 GB"),
    ],
)
def test_a_size_is_told_in_three_or_four_digits(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.43, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.96, "1:00 min"),
        (75, "1:15 min"),
        (75.6, "1:16 min"),
        (119.7, "2:00 min"),
        (3570, "59:30 min"),
        (3599.4, "59:59 min"),
        (3599.7, "1:00 h"),
        (3600, "1:00 h"),
        (7199, "2:00 h"),
        (7380, "2:03 h"),
        (90_000, "25:00 h"),
    ],
)
def test_a_duration_is_told_as_exactly_as_it_matters(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("share", "text"), [(0, "0.0 %"), (0.7345, "73.5 %"), (0.9996, "100.0 %"), (1, "100.0 %")])
def test_a_share_is_told_in_percent(share: float, text: str) -> None:
    assert f"accuracy {text} on" in text_of("evaluated", {**data_for("evaluated"), "accuracy": share})


def test_a_text_tells_sizes_and_durations_so() -> None:
    data = {"member": "train.zip", "size": 1_234_567, "seconds": 75}
    assert text_of("unpacked", data) == "unpacked train.zip: 1.2 MB in 1:15 min"
