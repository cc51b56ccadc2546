"""The terminal: the live line on pseudo-terminals of several widths, and none of it anywhere else."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from catsdogs.runtime import console
from catsdogs.runtime.console import fitting
from tests.terminal import COLOUR, ESCAPE, OnTerminal

EVENTS = """
import sys, time
from catsdogs.cli import complain, make_log
from catsdogs.runtime import events
from catsdogs.runtime.signals import erase_live_line
log = make_log("text")
def progress(event, **fields):
    time.sleep(0.11)
    log.emit(event(**fields))
log.emit(events.AlreadyTrained(run_id="first"))
progress(events.Unpacking, member="a-folder-with-a-long-name/" * 4 + "train.zip", done=400_000_000, total=800_000_000)
progress(events.Fetching, done=1_234, total=4_000)
log.emit(events.ImageExcluded(member="cat.1.jpg", reason="a reason of so many words that it takes more than one line"))
for epoch in (10, 11):
    for done in (40, 70, 100):
        progress(events.TrainingProgress, epoch=epoch, epochs=100, done=done, total=100, loss=0.6931, accuracy=0.5125,
                 rate=182.3)
    progress(events.Validating, epoch=epoch, epochs=100, done=25, total=50)
    log.emit(events.AlreadyTrained(run_id=f"epoch{epoch}"))
progress(events.Evaluating, done=1, total=50)
erase_live_line()
complain("the end")
"""


def events_on(width: int, directory: Path, **env: str) -> str:
    terminal = OnTerminal("-c", EVENTS, width=width, env=env, directory=directory)
    output = terminal.read()
    assert terminal.process.wait(10) == 0, output
    return output


def drawn(output: str) -> list[str]:
    """Return the live line at each of its states, without escape codes."""
    states = [ESCAPE.sub("", text) for text in output.split("\r\x1b[2K")[1:]]
    return [text for text in states if "\r\n" not in text]


def screen(output: str, width: int) -> list[str]:
    """Return the rows that are on the terminal in the end."""
    rows, column = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|.", output, re.DOTALL):
        if part == "\r":
            column = 0
        elif part == "\n":
            rows.append("")
        elif part == "\x1b[2K":
            rows[-1] = ""
        elif not ESCAPE.fullmatch(part):
            if column == width:
                rows.append("")
                column = 0
            rows[-1] = rows[-1][:column].ljust(column) + part + rows[-1][column + 1 :]
            column += 1
    return rows


@pytest.mark.parametrize("width", [40, 60, 80, 110, 200])
def test_live_line_fits_the_width(width: int, tmp_path: Path) -> None:
    output = events_on(width, tmp_path)
    assert "\x1b[?25l" not in output, "a hidden cursor stays hidden after a kill"
    lines = drawn(output)
    assert max(len(line) for line in lines) < width
    training = next(line for line in lines if "loss" in line and ("left" in line or width < 60))
    expected = ["loss 0.6931"]
    expected += ["accuracy 51.2 %", "s left"] if width >= 60 else []
    expected += ["182 images/s", "━━━━━"] if width >= 80 else []
    assert [text for text in expected if text not in training] == []
    assert any(line.startswith("fetching images: 1,234 of 4,000") for line in lines)
    assert any(line.startswith("epoch 10/100, validation") and "25/50" in line for line in lines)


@pytest.mark.parametrize("width", [60, 110])
def test_lines_above_the_live_line_stay_whole(width: int, tmp_path: Path) -> None:
    rows = [re.sub(r"^\d\d:\d\d:\d\d", "TIME", row) for row in screen(events_on(width, tmp_path), width)]
    excluded = {
        60: [
            "TIME left out cat.1.jpg: a reason of so many words that",
            "         it takes more than one line",
        ],
        110: ["TIME left out cat.1.jpg: a reason of so many words that it takes more than one line"],
    }
    trained = "is already trained on this volume"
    assert rows == [
        f"TIME run first {trained}",
        *excluded[width],
        f"TIME run epoch10 {trained}",
        f"TIME run epoch11 {trained}",
        "catsdogs: the end",
        "",
    ]


def test_colours_are_left_out_on_demand(tmp_path: Path) -> None:
    coloured = events_on(80, tmp_path)
    assert "\x1b[33mleft out cat.1.jpg" in coloured, "what is wrong is yellow"
    assert "\x1b[33mrun" not in coloured
    assert "\x1b[31mcatsdogs:" in coloured
    assert not COLOUR.search(events_on(80, tmp_path, NO_COLOR="1"))


def test_dumb_terminal_gets_lines(tmp_path: Path) -> None:
    output = events_on(80, tmp_path, TERM="dumb")
    assert "\x1b" not in output
    assert len(output.split("\r\n")) == 6, "no progress in so short a time"


def test_pipe_gets_lines(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", EVENTS], capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60
    )
    assert "\x1b" not in process.stdout + process.stderr
    assert "\r" not in process.stdout
    assert len(process.stdout.splitlines()) == 4
    assert process.stderr == "catsdogs: the end\n"


@pytest.mark.slow
def test_interrupted_training_leaves_the_terminal_in_order(sample_archive: Path, tmp_path: Path) -> None:
    """The real command, from the archive to SIGTERM in the middle of the training."""
    terminal = OnTerminal(
        "-m", "catsdogs", "run", f"--archive={sample_archive}", "--output=out", "--epochs=500", "--train-per-class=15",
        "--validation-per-class=4", "--test-per-class=4", "--image-size=48", "--batch-size=4",
        width=80, env={}, directory=tmp_path,
    )  # fmt: skip
    output = terminal.read(until="images/s  ")
    assert re.search(
        r"epoch \d+/500 .* loss \d\.\d{4}  accuracy \d+\.\d %  \d+ images/s  \S+ \S+ left", drawn(output)[-1]
    )
    terminal.process.send_signal(signal.SIGTERM)
    output = terminal.read()
    assert terminal.process.wait(10) == 75
    assert "\x1b[?25l" not in output
    rows = screen(output, 80)
    assert "".join(rows[-3:]) == "catsdogs: SIGTERM received: progress is saved; the same command goes on from there"
    assert re.match(r"\d\d:\d\d:\d\d epoch|\d\d:\d\d:\d\d recipe", rows[-4]), "the live line is gone"


def test_what_is_least_important_is_left_out_first() -> None:
    parts = [(0, "epoch 1/2"), (2, "accuracy"), (1, "loss")]
    assert fitting(parts, 25) == ["epoch 1/2", "accuracy", "loss"]
    assert fitting(parts, 24) == ["epoch 1/2", "loss"]
    assert fitting(parts, 3) == ["epoch 1/2"]


def test_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: clock.now))
    estimate = console.Estimate()
    # Resumed at a half: what an earlier process took says nothing.
    assert estimate.remaining(0.5) is None
    clock.now += 10
    assert estimate.remaining(0.6) == pytest.approx(40)
    # The training's own estimate, once there is one: it knows validation, and the slow first step.
    estimate.set(70)
    clock.now += 20
    assert estimate.remaining(0.7) == pytest.approx(50)
