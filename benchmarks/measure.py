"""How long something takes, what it costs, and how the figures are shown."""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Sample(NamedTuple):
    """One measurement of one way to do the work."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds, of all threads and child processes together."""
    peak: int = 0
    """Bytes of memory, of the largest process."""


WITH_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""As an installed program finds it; else each start would compile the modules anew."""

Samples = dict[str, list[Sample]]
"""By the way's name."""


class Failed(Exception):
    """A command that did not end well; the text ends with the end of what it said."""


def command(
    arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None, output: Path | None = None
) -> Sample:
    """Runs it to its end. Raises Failed."""
    with tempfile.TemporaryFile() if output is None else output.open("w+b") as log, tempfile.TemporaryFile() as told:
        process = subprocess.run(
            [sys.executable, "-c", _MEASURED, str(told.fileno()), *(str(argument) for argument in arguments)],
            env={**os.environ, **WITH_BYTECODE, **(environment or {})}, stdout=log, stderr=subprocess.STDOUT,
            pass_fds=[told.fileno()], check=False,
        )  # fmt: skip
        if process.returncode:
            log.seek(0)
            said = log.read()[-2000:].decode(errors="replace")
            raise Failed(f"{arguments}: exit code {process.returncode}\n{said}")
        told.seek(0)
        wall, used, peak = json.loads(told.read())
    return Sample(wall, used, peak)


_MEASURED = """
import json, os, subprocess, sys, time
began = time.monotonic()
process = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(process.pid, 0)
told = [time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]
os.write(int(sys.argv[1]), json.dumps(told).encode())
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Runs a command in between, from a process of its own: Linux counts the memory of whoever starts it as its."""


@contextmanager
def here(into: list[Sample]) -> Any:
    """Appends a sample of the block, run in this process."""
    began, used = time.monotonic(), time.process_time()
    yield
    into.append(Sample(time.monotonic() - began, time.process_time() - used))


def interleaved(ways: Mapping[str, Callable[[], Sample]], repeats: int) -> Samples:
    """Each way once, then each once more, beginning with another: what disturbs the machine hits all alike."""
    names = list(ways)
    samples: Samples = {name: [] for name in names}
    for repeat in range(repeats):
        for place in range(len(names)):
            name = names[(place + repeat) % len(names)]
            samples[name].append(ways[name]())
    return samples


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a fresh interpreter, so that no benchmark finds another one's memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _hush) as pool:
        return pool.submit(function, *arguments).result()


def _hush() -> None:
    """Keras' and TensorFlow's chatter would stand between the rows of the table; errors come back as exceptions."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nothing, descriptor)


def wall(samples: Iterable[Sample]) -> float:
    return statistics.median(sample.wall for sample in samples)


def cpu(samples: Iterable[Sample]) -> float:
    return statistics.median(sample.cpu for sample in samples)


def peak(samples: Iterable[Sample]) -> int:
    return int(statistics.median(sample.peak for sample in samples))


def ratio(samples: Samples, one: str, other: str, of: Callable[[Iterable[Sample]], float] = wall) -> float:
    """The median of the ratios of those that were measured next to each other."""
    pairs = zip(samples[one], samples[other], strict=True)
    return statistics.median(of([a]) / of([b]) for a, b in pairs)


@dataclass(frozen=True)
class Row:
    """A line of the table. `met` is None where nothing was promised, or nothing measured."""

    what: str
    measured: str
    target: str = ""
    met: bool | None = None


NOT_RUN = "not run: {}"
HEADER = "| what | measured | target | met |\n|---|---|---|---|"


def line(row: Row) -> str:
    met = {None: "", True: "yes", False: "**no**"}[row.met]
    return f"| {row.what} | {row.measured} | {row.target} | {met} |"


def say(text: str) -> None:
    """Progress, beside the table that goes to standard output."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
