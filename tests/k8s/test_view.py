"""The live view of `follow`, and that it understands what the job says, in both of its forms."""

import io
import math
import os
import pty
import re
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from catsdogs.runtime import events
from kubectl_catsdogs.jobs import job_log
from kubectl_catsdogs.jobs.progress import Progress, bar
from tests.conftest import REPOSITORY
from tests.k8s import objects
from tests.k8s.api import Api

NUMBERS: dict[str, Any] = {
    "epoch": 3, "epochs": 30, "done": 1200, "total": 4000, "step": 7, "steps": 100, "best_epoch": 2, "exit_code": 65,
    "accuracy": 0.712, "val_accuracy": 0.698, "loss": 0.5123, "val_loss": 0.6, "rate": 123.4, "remaining": 750.0,
    "seconds": 12.3, "left": 90.0, "size": 123456, "images": 1000, "correct": 712, "artifacts": 10, "seed": 0,
    "replicas": 1, "version": "0.1.0", "count": 2, "cats": 3, "dogs": 4, "train": 5, "validation": 6, "test": 7,
    "fetched": 8, "moved": 9, "quarantined": 1, "parameters": 10, "image_size": 150, "batch_size": 20,
    "difference": 1e-7, "low": 0.86, "high": 0.88, "broken": 0,
}  # fmt: skip


def data_of(event: str) -> dict[str, Any]:
    """Something for each field of the event's text."""
    names = [name for _, name, _, _ in string.Formatter().parse(events.EVENTS[event]) if name]
    return {name: NUMBERS.get(name, f"some-{name}") for name in names}


def both_forms(event: str, data: dict[str, Any]) -> list[str]:
    forms = []
    for sink in (events.TextLines, events.JsonLines):
        stream = io.StringIO()
        sink(stream).show(event, data)
        forms.append(stream.getvalue().rstrip("\n"))
    return forms


@pytest.mark.parametrize("event", job_log.PATTERNS)
def test_both_forms_of_what_the_job_says_are_understood(event: str) -> None:
    data = data_of(event)
    text, line = both_forms(event, data)
    for form in (text, line):
        found = job_log.event_of(form)
        assert found is not None
        assert found[0] == event
        for name in re.findall(r"\?P<(\w+)>", job_log.PATTERNS[event]):
            value = data[name]
            assert found[1][name] == (value if isinstance(value, str) else pytest.approx(value, rel=0.01)), form


def test_no_event_is_taken_for_another() -> None:
    for event in set(events.EVENTS) - {"demo"}:
        found = job_log.event_of(both_forms(event, data_of(event))[0])
        assert (found[0] if found else None) == (event if event in job_log.PATTERNS else None)


@pytest.mark.parametrize("remaining", [0.4, 42.0, 75.0, 7380.0])
def test_a_training_that_diverges_is_still_followed(remaining: float) -> None:
    data = data_of("epoch") | {"loss": math.nan, "val_loss": math.inf, "remaining": remaining}
    found = job_log.event_of(both_forms("epoch", data)[0])
    assert found is not None
    assert found[1]["remaining"] == pytest.approx(remaining, rel=0.01)


@pytest.mark.parametrize("form", [0, 1])
def test_the_bar(form: int) -> None:
    progress = Progress()
    for event, change in (
        ("epoch", {"epoch": 2, "epochs": 3}),
        ("training", {"epoch": 3, "epochs": 3, "done": 30, "total": 60, "accuracy": 0.75}),
    ):
        progress.take(both_forms(event, data_of(event) | change)[form])
    best = "best validation 69.8 % (epoch 2)"
    assert bar(progress, 30) == f"epoch 3/3  [{12 * '#'}{12 * '-'}] step 30/60  accuracy 75.0 %, {best}, about 12m left"
    progress.take(both_forms("epoch", data_of("epoch") | {"epoch": 3, "epochs": 4})[form])
    assert bar(progress).startswith(f"epoch 3/4  [{18 * '#'}{6 * '-'}]  accuracy 71.2 %, ")
    progress.take(both_forms("waiting", data_of("waiting"))[form])
    assert bar(progress) == "waiting for storage: some-reason"


def test_on_a_terminal_progress_is_a_bar_and_nothing_steers_it(api: Api, kubeconfig: Path) -> None:
    job = api.put("jobs", objects.job())
    pod = objects.start(api, job)
    for event in ("started", "epoch", "training"):
        api.write(pod["metadata"]["name"], both_forms(event, data_of(event))[0])
    api.write(pod["metadata"]["name"], "\x1b[2Jred\x07", b"\xff")
    shown = on_terminal(api, kubeconfig, pod)
    assert "catsdogs 0.1.0: run some-run_id" in shown
    assert "\\x1b[2Jred\\x07\r\n" in shown
    assert "\\xff\r\n" in shown
    assert ", accuracy 71.2 %, 123 images/s\r\n" not in shown
    figures = "accuracy 71.2 %, best validation 69.8 % (epoch 3), about 12m"
    assert f"epoch 3/30  [{7 * '#'}{17 * '-'}] step 1200/4000  {figures}" in shown
    *_, last = shown.split("\r\x1b[2K")
    assert last == "-- run pets-1 is complete; its result is at s3://pets/runs/pets-1/\r\n"


def on_terminal(api: Api, kubeconfig: Path, pod: objects.Object) -> str:
    """What `follow` writes to a terminal, which the pod's end ends."""
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "k8s"), "KUBECONFIG": str(kubeconfig)}
    process = subprocess.Popen(
        [sys.executable, "-m", "kubectl_catsdogs", "follow"],
        env=environment | {"TERM": "xterm", "COLUMNS": "200"},
        cwd=kubeconfig.parent,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                shown += terminal.read(65536)
            except OSError:  # as Linux reports that nobody has the other end any more
                break
            if b"left" in shown and api.find("jobs", "pets-1", "default")["status"] == {}:  # type: ignore[index]
                objects.end(api, pod, 0)
                objects.finish(api)
    assert process.wait(10) == 0
    return shown.decode()
