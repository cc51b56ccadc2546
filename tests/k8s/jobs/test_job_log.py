"""Lines of the job's log as events, and the progress that follows from them."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from catsdogs.runtime import events as job_events
from kubectl_catsdogs.jobs import job_log
from kubectl_catsdogs.jobs.job_log import EVENTS, EpochEnded, Event, Other, Started, event_of, last_text, text_of
from kubectl_catsdogs.jobs.progress import Progress, bar
from tests.k8s.fakes.logs import FORMATS, epoch, lines

OWN = {field.name for field in dataclasses.fields(Event)}


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_that_is_followed_is_one_of_the_job_with_these_fields(name: str) -> None:
    data = {field.name for field in dataclasses.fields(job_events.EVENTS[name])}  # type: ignore[arg-type]
    assert {field.name for field in dataclasses.fields(EVENTS[name])} - OWN <= data


@pytest.mark.parametrize("form", FORMATS)
def test_an_event_is_read_with_its_types(form: str) -> None:
    line = epoch(2, val_accuracy=1, loss=0.5)[0] if form == "mixed" else epoch(2, form="json", val_accuracy=1)[0]
    event = event_of(line)
    assert isinstance(event, EpochEnded)
    assert (event.epoch, event.val_accuracy, type(event.val_accuracy)) == (2, 1.0, float)
    assert event.worker is None


HOSTILE = [
    "", "{", "{}", "[]", "null", "{]", "[" * 100_000, "{" * 100_000, '{"event": ' + "[" * 15_000,
    '{"event": {}}', '{"event": null}', '{"event": "epoch"' + " " * 20_000 + "}", '{"epoch": 3}',
    '{"event": "epoch", "epoch": ' + "9" * 5000 + "}",
]  # fmt: skip


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_event_is_a_line_of_text(line: str) -> None:
    assert event_of(line) is None
    assert text_of(line) == line


@pytest.mark.parametrize(
    "value",
    ["NaN", "Infinity", "-Infinity", "1e999", "true", "null", '"7"', "[7]", "{}", "1" + "0" * 400, "1.5e300"],
)
def test_a_field_of_another_type_is_ignored(value: str) -> None:
    event = event_of(f'{{"event": "epoch", "epoch": {value}, "accuracy": {value}, "remaining": 5, "invented": 1}}')
    assert isinstance(event, EpochEnded)
    assert event.epoch is None
    assert event.accuracy is None or event.accuracy == 1.5e300
    assert event.remaining == 5.0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=4
)


@example(name="assembling", data={"": "\t"})
@example(name="waiting", data={"": "\t"})
@given(name=st.sampled_from([*EVENTS, "else"]), data=st.dictionaries(st.text(max_size=8), json_values, max_size=3))
def test_no_log_breaks_the_progress(name: str, data: dict[str, Any]) -> None:
    kind = EVENTS.get(name, Other)
    progress = Progress()
    for field in dataclasses.fields(kind):
        for value in (*data.values(), -1, 0, 1e300, ""):
            line = json.dumps({**data, "event": name, field.name: value})
            progress.take(line)
            assert bar(progress).isprintable() or not bar(progress)
            text_of(line)


def test_an_event_without_a_text_is_for_programs() -> None:
    line, text = lines("epoch", "epoch 3/30: all of it")
    assert (text_of(line), text_of(text)) == (None, "12:00:09 epoch 3/30: all of it")
    assert text_of(lines("epoch", "all of it", "json")[0]) == "12:00:09 all of it"
    assert text_of('{"event": "failed", "error": "birds.zip", "text": "x"}') == "birds.zip"
    assert last_text(["one", line, " ", line]) == "one"
    assert last_text([line]) is None


def test_an_event_that_the_plugin_does_not_know_is_hidden_as_well() -> None:
    assert event_of('{"event": "invented-later"}') == Other()
    assert text_of('{"event": "invented-later"}') is None


def test_sentences_of_the_job_are_no_events() -> None:
    for form in ("text",):
        assert event_of(*lines("started", "catsdogs 0.1.0: run a, recipe baseline, 3 epochs, seed 0", form)) is None
    assert isinstance(event_of('{"event": "started", "recipe": "baseline"}'), Started)


def take(progress: Progress, name: str, form: str, **data: Any) -> None:
    for line in lines(name, form=form, **data):
        progress.take(line)


@pytest.mark.parametrize("form", FORMATS)
def test_the_bar(form: str) -> None:
    progress = Progress()
    take(progress, "epoch", form, epoch=2, epochs=3, accuracy=0.712, val_accuracy=0.698, remaining=750.0)
    take(progress, "training", form, epoch=3, epochs=3, done=30, total=60, accuracy=0.75)
    best = "best validation 69.8 % (epoch 2)"
    assert bar(progress, 30) == f"epoch 3/3  [{12 * '#'}{12 * '-'}] step 30/60  accuracy 75.0 %, {best}, about 12m left"
    take(progress, "epoch", form, epoch=3, epochs=4, accuracy=0.712, val_accuracy=0.698, remaining=1.0)
    assert bar(progress).startswith(f"epoch 3/4  [{18 * '#'}{6 * '-'}]  accuracy 71.2 %, ")
    take(progress, "assembling", form, whom="worker 1")
    assert bar(progress) == "waiting for worker 1"
    take(progress, "waiting", form, reason="some-reason")
    assert bar(progress) == "waiting for storage: some-reason"
    take(progress, "training", form, epoch=4, epochs=4, done=1, total=2)
    assert "waiting" not in bar(progress)


def test_a_training_that_diverges_is_still_followed() -> None:
    progress = Progress()
    take(progress, "epoch", "mixed", epoch=1, epochs=3, accuracy=None, val_accuracy=None, remaining=20.0)
    assert (progress.epochs_done, progress.best, bar(progress)[:9]) == (1, None, "epoch 1/3")


def test_the_stages_have_names_for_people() -> None:
    for name in ("fetching", "evaluating", "uploading"):
        progress = Progress()
        take(progress, name, "mixed", done=1, total=2)
        assert bar(progress) == f"{name}  [{12 * '#'}{12 * '-'}] 1/2"


def test_bounds_are_above_what_the_job_writes() -> None:
    assert len(lines("epoch", "x" * 500, "json")[0]) * 10 < job_log.MAX_EVENT
