"""What `follow` writes to a terminal and to a pipe, of a log in each of its formats."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.k8s.conftest import Plugin
from tests.k8s.fakes import objects
from tests.k8s.fakes.api import Api
from tests.k8s.fakes.logs import FORMATS, lines


def write_log(api: Api, pod: objects.Object, form: str) -> None:
    name = pod["metadata"]["name"]
    api.write(name, *lines("started", "catsdogs 0.1.0: run pets-1", form, recipe="baseline", epochs=30))
    epoch = {"epoch": 3, "epochs": 30, "accuracy": 0.7, "val_accuracy": 0.698, "remaining": 750.0}
    api.write(name, *lines("epoch", "epoch 3/30: all of it", form, **epoch))
    api.write(
        name, *lines("training", "epoch 4/30: so far", form, epoch=4, epochs=30, done=12, total=40, accuracy=0.712)
    )
    api.write(name, *lines("invented-later", "another event", form, new=1))
    api.write(name, "\x1b[2Jred\x07", b"\xff")


@pytest.mark.parametrize("form", FORMATS)
def test_on_a_terminal_progress_is_a_bar_and_nothing_controls_it(api: Api, kubeconfig: Path, form: str) -> None:
    pod = objects.start(api, api.put("jobs", objects.job()))
    write_log(api, pod, form)
    shown = on_terminal(api, kubeconfig, pod)
    for line in ("catsdogs 0.1.0: run pets-1", "epoch 3/30: all of it", "another event"):
        assert f"12:00:09 {line}\r\n" in shown
    assert "\\x1b[2Jred\\x07\r\n" in shown
    assert "\\xff\r\n" in shown
    # Progress moves the bar, and is no line; events are no JSON.
    assert "so far" not in shown
    assert "{" not in shown
    metrics = "accuracy 71.2 %, best validation 69.8 % (epoch 3), about 12m"
    assert f"epoch 4/30  [{7 * '#'}{17 * '-'}] step 12/40  {metrics}" in shown
    *_, last = shown.split("\r\x1b[2K")
    assert last == "-- run pets-1 is complete; its result is at s3://pets/runs/pets-1/\r\n"


def test_a_line_that_only_follows_progress_is_shown(api: Api, kubeconfig: Path) -> None:
    """A warning of a library, between the two lines of an event."""
    pod = objects.start(api, api.put("jobs", objects.job()))
    write_log(api, pod, "mixed")
    progress, text = lines("training", "hidden", done=1, total=2)
    api.write(pod["metadata"]["name"], progress, "a warning", text, progress, text)
    shown = on_terminal(api, kubeconfig, pod)
    assert "a warning\r\n" in shown
    assert shown.count("hidden") == 1


@pytest.mark.parametrize("form", ["mixed", "json", "text"])
def test_a_pipe_gets_the_log_without_lines_for_programs(api: Api, plugin: Plugin, form: str) -> None:
    pod = objects.start(api, api.put("jobs", objects.job()))
    name = pod["metadata"]["name"]
    api.write(name, *lines("epoch", "of the job", form, epoch=1), '{"a": "line of a library"}', "{no JSON")
    objects.end(api, pod, 0)
    objects.finish(api)
    whole = api.log_of(name).decode().splitlines()
    shown = plugin("follow").stdout.splitlines()
    assert shown == (whole[1:] if form == "mixed" else whole)
    assert len(shown) == 3


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
