"""Measure the job against what a user could pick instead, and print a table of the results: `make bench`."""

import argparse
import importlib
import os
import platform
import tempfile
import time
from pathlib import Path

from benchmarks.fixtures import fixtures
from benchmarks.measure import HEADER, line, say

PARTS = ("fetching", "generators", "training", "workers", "whole", "starting", "scaling")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--archive", type=Path, help="Kaggle's dogs-vs-cats.zip or train.zip; else images are drawn")
    parser.add_argument("--original", type=Path, help="a train.zip of images as large as Kaggle's own")
    parser.add_argument("--repeats", type=int, default=3, help="of each short measurement")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts")
    arguments = parser.parse_args()
    began = time.monotonic()
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {_machine()}, load {os.getloadavg()[0]:.1f} at the start.\n\n{HEADER}")  # noqa: T201
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        fixtures(Path(directory), arguments.archive, arguments.original) as prepared,
    ):
        for part in arguments.only:
            say(f"-- {part} ({time.monotonic() - began:.0f} s)")
            for row in importlib.import_module(f"benchmarks.{part}").rows(prepared, arguments.repeats):
                print(line(row), flush=True)  # noqa: T201
    print(f"\nIt took {(time.monotonic() - began) / 60:.0f} minutes; load {os.getloadavg()[0]:.1f} at the end.")  # noqa: T201


def _machine() -> str:
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = len(os.sched_getaffinity(0))
    processor = names[0] if names else platform.machine()
    return f"{cores} cores of {processor}, {memory:.0f} GiB, Python {platform.python_version()}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    main()
