"""Measure time, CPU time and memory, and format the results."""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Sample(NamedTuple):
    """One measurement of one variant."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds, of all threads and child processes together."""
    peak: int = 0
    """Bytes of memory, of the largest process."""


WITH_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""As for an installed program; without bytecode, each start would compile the modules."""

Samples = dict[str, list[Sample]]
"""By the variant's name."""


class Failed(Exception):
    """A command failed; the text ends with the end of its output."""


def command(
    arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None, output: Path | None = None
) -> Sample:
    """Run the command to its end. Raises Failed."""
    with tempfile.TemporaryFile() if output is None else output.open("w+b") as log, tempfile.TemporaryFile() as result:
        process = subprocess.run(
            [sys.executable, "-c", _MEASURED, str(result.fileno()), *(str(argument) for argument in arguments)],
            env={**os.environ, **WITH_BYTECODE, **(environment or {})}, stdout=log, stderr=subprocess.STDOUT,
            pass_fds=[result.fileno()], check=False,
        )  # fmt: skip
        if process.returncode:
            log.seek(0)
            end = log.read()[-2000:].decode(errors="replace")
            raise Failed(f"{arguments}: exit code {process.returncode}\n{end}")
        result.seek(0)
        wall, used, peak = json.loads(result.read())
    return Sample(wall, used, peak)


_MEASURED = """
import json, os, subprocess, sys, time
began = time.monotonic()
process = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(process.pid, 0)
result = [time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]
os.write(int(sys.argv[1]), json.dumps(result).encode())
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Starts the command from a small process: Linux counts the memory of the starting process as the command's."""


@contextmanager
def here(into: list[Sample]) -> Iterator[None]:
    """Append a sample of the block, which runs in this process."""
    began, used = time.monotonic(), time.process_time()
    yield
    into.append(Sample(time.monotonic() - began, time.process_time() - used))


def interleaved(variants: Mapping[str, Callable[[], Sample]], repeats: int) -> Samples:
    """Run the variants in rounds, each round starting with another one, so that disturbances affect all alike."""
    names = list(variants)
    samples: Samples = {name: [] for name in names}
    for repeat in range(repeats):
        for place in range(len(names)):
            name = names[(place + repeat) % len(names)]
            samples[name].append(variants[name]())
    return samples


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the function returns in a fresh interpreter, so that no benchmark inherits another one's memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _hush) as pool:
        return pool.submit(function, *arguments).result()


def _hush() -> None:
    """Silence Keras and TensorFlow, whose output would mix with the table; errors come back as exceptions."""
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
    """Return the median of the ratios within each round."""
    pairs = zip(samples[one], samples[other], strict=True)
    return statistics.median(of([a]) / of([b]) for a, b in pairs)


@dataclass(frozen=True)
class Row:
    """A row of the table. `met` is None if there is no target, or no measurement."""

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
    """Print progress on standard error; the table goes to standard output."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
