"""The real command as a process group of its own, and the instants at which it can be caught."""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY

RUN_ID = "faulty"
SPLIT = ("--train-per-class=15", "--validation-per-class=4", "--test-per-class=4")
SMALL = (*SPLIT, "--recipe=augmented", "--image-size=64", "--batch-size=4", "--learning-rate=0.001", "--epochs=6")
"""A model of seconds, with dropout and augmentation. Checkpoints come every few steps, so that a run can be caught
between two of an epoch."""
OPTIONS = (f"--run-id={RUN_ID}", "--log-format=json", "--checkpoint-every=0.05s", *SMALL)

TRAINED = ("settings.json", "prepared.json", "log.jsonl", "artifacts")
"""What `catsdogs train` leaves of a run on its volume that `catsdogs publish` needs."""


def environment(*variables: Mapping[str, str]) -> dict[str, str]:
    """PATH and PYTHONPATH, and what is given; nothing else of this process'."""
    merged = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "job"), "HOME": "/nonexistent"}
    for more in variables:
        merged |= more
    return merged


class Job:
    """`catsdogs ARGUMENTS` at work, in `directory`, where its standard error goes to a file. `through` is a
    command that starts it, as another kind of process."""

    def __init__(self, *arguments: str | Path, env: Mapping[str, str], directory: Path, through: Sequence[str] = ()):
        directory.mkdir(parents=True, exist_ok=True)
        self._stderr = directory / f"stderr.{time.monotonic_ns()}"
        self.began = time.monotonic()
        with self._stderr.open("wb") as file:
            self.process = subprocess.Popen(
                [*through, sys.executable, "-m", "catsdogs", *map(str, arguments)],
                env=environment(env),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,
            )
        self.pid = self.process.pid
        self.stdout = ""
        self.events: list[dict[str, Any]] = []
        self.peak_memory = 0
        """Bytes, as far as it has been seen. Not ru_maxrss, which begins with what the parent process has."""
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, name="events", daemon=True)
        self._reader.start()
        threading.Thread(target=self._watch, name="memory", daemon=True).start()

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.stdout += line.decode()
                with contextlib.suppress(ValueError):
                    self.events.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _watch(self) -> None:
        """The kernel keeps the highest figure itself; it must only be read before the process ends."""
        while self.process.returncode is None:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{self.pid}/status").read_text()
                for line in status.splitlines():
                    if line.startswith("VmHWM:"):
                        self.peak_memory = max(self.peak_memory, 1024 * int(line.split()[1]))
            time.sleep(0.01)

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    @property
    def names(self) -> list[str]:
        return [event["event"] for event in self.events]

    def until(self, event: str, timeout: float = 60, **data: Any) -> dict[str, Any]:
        """Waits for an event with such data, and returns it."""

        def found() -> dict[str, Any] | None:
            for said in self.events:
                if said["event"] == event and data.items() <= said.items():
                    return said
            return None

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._ended, timeout)
        said = found()
        assert said is not None, f"no event {event} {data}: {self.names}\n{self.stderr}"
        return said

    def until_true(self, what: Callable[[], Any], timeout: float = 60) -> None:
        """Asks again and again, as fast as a kill must follow."""
        deadline = time.monotonic() + timeout
        while not what():
            assert self.process.poll() is None, f"ended too soon: {self.names}\n{self.stderr}"
            assert time.monotonic() < deadline, f"did not come to it: {self.names}\n{self.stderr}"
            time.sleep(0.001)

    def catches(self, number: signal.Signals) -> bool:
        """Whether the process has a handler for the signal, as the kernel sees it."""
        return self._has("SigCgt", number)

    def has_pending(self, number: signal.Signals) -> bool:
        """Whether the signal waits to be delivered."""
        return self._has("ShdPnd", number)

    def _has(self, mask: str, number: signal.Signals) -> bool:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return False
        bits = next(line for line in status.splitlines() if line.startswith(mask)).split()[1]
        return bool(int(bits, 16) >> (number - 1) & 1)

    def has_loaded(self, library: str) -> bool:
        try:
            return library in Path(f"/proc/{self.pid}/maps").read_text()
        except OSError:
            return False

    def kill(self) -> None:
        """Kill -9 of the whole group: nothing of it runs on."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self, timeout: float = 120) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def said(self) -> str:
        """The one line on standard error, which a failure has."""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, f"not one line:\n{self.stderr}\n{self.names}"
        assert lines[0].startswith("catsdogs: ")
        return lines[0]


def ended(*arguments: str | Path, env: Mapping[str, str], directory: Path, timeout: float = 120) -> tuple[int, Job]:
    """The command, run to its end: its exit code, and what it said."""
    with Job(*arguments, env=env, directory=directory) as job:
        return job.wait(timeout), job


_IN_OPEN = 0x20


class Opens:
    """Notices from now on when a file of these directories is opened, while it is entered."""

    def __init__(self, *directories: Path):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_CLOEXEC)
        assert self._handle >= 0, os.strerror(ctypes.get_errno())
        for directory in directories:
            watch = self._libc.inotify_add_watch(self._handle, os.fsencode(directory), _IN_OPEN)
            assert watch >= 0, f"{directory}: {os.strerror(ctypes.get_errno())}"

    def __enter__(self) -> "Opens":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def wait(self, timeout: float = 60) -> None:
        ready, _, _ = select.select([self._handle], [], [], timeout)
        assert ready, "nothing was opened"


def _opened(job: Job, volume: Path, split: str, after: str) -> None:
    """Waits until the job opens an image of the split, once it has said `after`."""
    job.until(after)
    [directory] = (volume / "splits").iterdir()
    with Opens(directory / split / "cats", directory / split / "dogs") as opens:
        opens.wait()


def at_handler(job: Job, volume: Path) -> None:
    job.until_true(lambda: job.catches(signal.SIGTERM))


def at_splitting(job: Job, volume: Path) -> None:
    job.until_true(lambda: next((volume / "splits").glob("*/*/*/*.jpg"), None))


def at_import(job: Job, volume: Path) -> None:
    job.until_true(lambda: job.has_loaded("/tensorflow/"))


def at_compiling(job: Job, volume: Path) -> None:
    _opened(job, volume, "train", after="device")


def at_validating(job: Job, volume: Path) -> None:
    _opened(job, volume, "validation", after="model")


def at_evaluating(job: Job, volume: Path) -> None:
    _opened(job, volume, "test", after="model")


def at_mid_epoch(job: Job, volume: Path) -> None:
    """The file's name has the epoch and the step, both of the next one to do."""
    directory = volume / "work" / RUN_ID / "checkpoint"
    job.until("model")
    known = set(directory.glob("*.npz"))

    def between() -> bool:
        return any(not path.stem.endswith("-000000") for path in set(directory.glob("*.npz")) - known)

    job.until_true(between)


def at_second_epoch(job: Job, volume: Path) -> None:
    job.until("epoch", epoch=2)


def at_report(job: Job, volume: Path) -> None:
    job.until("evaluated")


Stage = Callable[[Job, Path], None]

STAGES: dict[str, Stage] = {
    "splitting": at_splitting,
    "importing TensorFlow": at_import,
    "compiling": at_compiling,
    "mid-epoch": at_mid_epoch,
    "validating": at_validating,
    "between epochs": at_second_epoch,
    "evaluating": at_evaluating,
    "reporting": at_report,
}
"""Instants of a run, in their order: each waits for its own. Those in the storage's requests are held by a Proxy."""


@contextlib.contextmanager
def together(jobs: list[Job]) -> Iterator[list[Job]]:
    """Jobs at work at the same time; none outlives the block."""
    try:
        yield jobs
    finally:
        for job in jobs:
            job.kill()
