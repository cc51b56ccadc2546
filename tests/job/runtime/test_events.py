import ast
import io
import json
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import catsdogs
from catsdogs.runtime import events, log
from catsdogs.runtime.events import EVENTS, AlreadyTrained, Evaluating, Event
from catsdogs.runtime.formatting import duration_text, size_text
from catsdogs.runtime.log import JsonLines, Log, MixedLines, TextLines
from tests.recorder import Recorder

HOSTILE = "cat.1.jpg\r\x1b[2Kall is well\nand more\x85\u2028"


def example(event: type[Event], **values: Any) -> Event:
    """An event of that class whose fields are numbers, but for `values`."""
    return event(**{field.name: number for number, field in enumerate(fields(event), start=1)} | values)  # type: ignore[arg-type]


def emitted() -> set[str]:
    """The classes of all events that the job emits."""
    return {
        node.args[0].func.id
        for path in Path(catsdogs.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit"
        if isinstance(node.args[0], ast.Call) and isinstance(node.args[0].func, ast.Name)
    }


@pytest.mark.parametrize("event", EVENTS.values())
def test_every_event_has_a_text_of_one_line(event: type[Event]) -> None:
    text = example(event).sentence()
    assert text.isprintable()
    assert not set(text) & set("{}")


def test_every_event_is_emitted_somewhere() -> None:
    assert emitted() | {"Failed"} == {event.__name__ for event in EVENTS.values()}


def test_progress_is_what_can_be_shown_as_a_bar() -> None:
    for event in EVENTS.values():
        assert event.progress == ({"done", "total"} <= {field.name for field in fields(event)})  # type: ignore[arg-type]


@pytest.mark.parametrize("worker", [0, 3])
@pytest.mark.parametrize("event", EVENTS.values())
def test_all_formats_report_the_same(event: type[Event], worker: int) -> None:
    text, lines, mixed = io.StringIO(), io.StringIO(), io.StringIO()
    one = example(event)
    TextLines(text).show(one, worker)
    JsonLines(lines).show(one, worker)
    MixedLines(mixed).show(one, worker)
    for_programs, for_people = mixed.getvalue().splitlines()
    line, short = json.loads(lines.getvalue()), json.loads(for_programs)
    sentence = f"worker 3: {one.sentence()}" if worker else one.sentence()
    assert text.getvalue().partition(" ")[2] == sentence + "\n"
    data = {**({"worker": 3} if worker else {}), **one.data()}
    assert line == {"time": line["time"], "event": event.name, "text": sentence, **data}
    assert short == {"time": short["time"], "event": event.name, **data}
    assert for_people == f"{datetime.fromisoformat(short['time']):%H:%M:%S} {sentence}"


def test_counts_agree_with_their_nouns() -> None:
    assert example(events.DeviceChosen, replicas=1).sentence().endswith("1 replica")
    assert example(events.DeviceChosen, replicas=2).sentence().endswith("2 replicas")
    assert "1 epoch," in example(events.Started, epochs=1).sentence()


def test_the_last_epoch_leaves_no_time() -> None:
    assert example(events.EpochEnded, epoch=1, epochs=2, remaining=75).sentence().endswith(", 1:15 min left")
    assert "left" not in example(events.EpochEnded, epoch=2, epochs=2, remaining=0).sentence()


def test_a_name_cannot_forge_a_line() -> None:
    text, lines = io.StringIO(newline=""), io.StringIO(newline="")
    for sink in (TextLines(text), JsonLines(lines)):
        sink.show(events.ImageExcluded(member=HOSTILE, reason="empty"), 0)
    assert text.getvalue().isascii()
    assert r"left out cat.1.jpg\r\x1b[2Kall is well\nand more" in text.getvalue()
    for stream in (text, lines):
        assert stream.getvalue().splitlines(keepends=True) == [stream.getvalue()]
        assert "\r" not in stream.getvalue()
    assert json.loads(lines.getvalue())["member"] == HOSTILE


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_has_no_number_for_is_null(value: float) -> None:
    lines = io.StringIO()
    JsonLines(lines).show(example(events.TrainingProgress, loss=value), 0)
    line = json.loads(lines.getvalue(), parse_constant=pytest.fail)
    assert line["loss"] is None
    assert f"loss {value}" in line["text"]


class Watching(Recorder):
    @property
    def shown(self) -> list[int]:
        """How far things had come at each event."""
        return [data.get("done", -1) for _, data in self.events]


def say_and_fail(log: Log) -> None:
    log.emit(AlreadyTrained(run_id="within"))
    raise ZeroDivisionError("by\nzero")


class TestLog:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
        """The log's own; it stands still."""
        clock = SimpleNamespace(now=100.0)
        monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: clock.now))
        return clock

    def test_progress_is_shown_at_each_sinks_own_pace(self, clock: SimpleNamespace) -> None:
        slow, fast, all_of_it = sinks = [Watching(5), Watching(1), Watching(0)]
        report = Log(sinks)
        for done in range(12):
            report.emit(Evaluating(done=done, total=12))
            clock.now += 1
        assert slow.shown == [5, 10]
        assert fast.shown == list(range(1, 12))
        assert all_of_it.shown == list(range(12))

    def test_anything_else_is_shown_at_once_and_stands_for_progress(self, clock: SimpleNamespace) -> None:
        sink = Watching(5)
        report = Log([sink])
        report.emit(AlreadyTrained(run_id="r"))
        clock.now += 4
        report.emit(Evaluating(done=1, total=2))
        clock.now += 1
        report.emit(Evaluating(done=2, total=2))
        assert sink.shown == [-1, 2]

    def test_due_tells_whether_progress_would_be_shown(self, clock: SimpleNamespace) -> None:
        report = Log([Watching(5), Watching(60)])
        assert not report.due()
        clock.now += 5
        assert report.due()
        report.emit(Evaluating(done=1, total=2))
        assert not report.due()
        assert not Log([]).due()

    def test_a_record_has_what_was_said_meanwhile_and_what_ended_it(self) -> None:
        sink, record = Watching(0), io.StringIO()
        report = Log([sink])
        report.emit(AlreadyTrained(run_id="before"))
        with pytest.raises(ZeroDivisionError), report.recorded_in(record):
            say_and_fail(report)
        report.emit(AlreadyTrained(run_id="after"))
        lines = [json.loads(line) for line in record.getvalue().splitlines()]
        assert [line["event"] for line in lines] == ["already-trained", "failed"]
        assert lines[0]["run_id"] == "within"
        assert (lines[1]["exit_code"], lines[1]["error"]) == (1, "by\nzero")
        assert len(sink.shown) == 3


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
    assert f"accuracy {text} on" in example(events.Evaluated, accuracy=share).sentence()


def test_a_text_tells_sizes_and_durations_so() -> None:
    event = events.Unpacked(member="train.zip", size=1_234_567, seconds=75)
    assert event.sentence() == "unpacked train.zip: 1.2 MB in 1:15 min"
