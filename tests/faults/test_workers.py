"""Several workers, of which one is killed, hangs, is told to stop or is cut off: all stop, and go on together."""

import os
import shutil
import subprocess
import time
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

import numpy as np
import pytest

from tests.faults.running import Job, ended, environment, together
from tests.published import check_manifest, files
from tests.workers import HEARTBEAT, RUN_ID, addresses, arguments, options, rows_of, started, worker

INTERRUPTED = 75
EPOCHS = "--epochs=12"
MARGIN = 10
"""Seconds for a machine that is busy."""


@pytest.fixture(scope="module")
def alone(sample_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happened to, of one worker."""
    directory = tmp_path_factory.mktemp("alone")
    code, job = ended(*arguments(directory, sample_archive, EPOCHS), env={}, directory=directory)
    assert code == 0, job.stderr
    return directory


def at_work(jobs: list[Job]) -> None:
    """Until an epoch is over that this start has trained; then a further step, or some."""
    jobs[0].until("epoch")
    time.sleep(0.2)


def check(directory: Path, alone: Path) -> None:
    """Each epoch once, and the curve of a single worker that nothing happened to."""
    check_manifest(files(directory / "runs" / RUN_ID))
    curves = [list(rows_of((folder / "runs" / RUN_ID / "history.csv").read_bytes())) for folder in (directory, alone)]
    assert [row[0] for row in curves[0]] == [row[0] for row in curves[1]]
    assert np.array(curves[0])[:, [1, 3]] == pytest.approx(np.array(curves[1])[:, [1, 3]], rel=1e-2)


def test_two_workers_of_which_one_is_killed_or_stopped(sample_archive: Path, alone: Path, tmp_path: Path) -> None:
    """SIGTERM to either, then kill -9 of either; at last three workers go on from there."""
    slow = (EPOCHS, "--checkpoint-every=0.05s")
    for victim, number in ((1, SIGTERM), (0, SIGTERM), (1, SIGKILL), (0, SIGKILL)):
        with started(2, tmp_path, sample_archive, *slow) as jobs:
            at_work(jobs)
            jobs[victim].process.send_signal(number)
            began = time.monotonic()
            codes = [job.wait(HEARTBEAT + MARGIN) for job in jobs]
            assert time.monotonic() - began < HEARTBEAT + MARGIN
        expected = [INTERRUPTED, INTERRUPTED]
        if number == SIGKILL:
            expected[victim] = -SIGKILL
            assert f"worker {victim} is lost: " in jobs[1 - victim].said()
        else:
            assert "SIGTERM received: progress is saved" in jobs[victim].said()
            assert "a signal to another worker received: progress is saved" in jobs[1 - victim].said()
        assert codes == expected, [job.stderr for job in jobs]
    with started(3, tmp_path, sample_archive, *slow) as jobs:
        assert [job.wait() for job in jobs] == [0, 0, 0], [job.stderr for job in jobs]
    assert jobs[0].until("resumed")["epoch"] > 1
    check(tmp_path, alone)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_worker_that_hangs(victim: int, sample_archive: Path, alone: Path, tmp_path: Path) -> None:
    with started(2, tmp_path, sample_archive, EPOCHS) as jobs:
        at_work(jobs)
        jobs[victim].process.send_signal(SIGSTOP)
        assert jobs[1 - victim].wait(HEARTBEAT + MARGIN) == INTERRUPTED
        assert f"worker {victim} is lost: nothing heard for {HEARTBEAT} s" in jobs[1 - victim].said()
        # What is started in its place waits, as it still holds its volume and its ports.
        jobs[victim].process.send_signal(SIGCONT)
        assert jobs[victim].wait(HEARTBEAT + MARGIN) == INTERRUPTED
    with started(2, tmp_path, sample_archive, EPOCHS) as jobs:
        assert [job.wait() for job in jobs] == [0, 0], [job.stderr for job in jobs]
    check(tmp_path, alone)


@pytest.mark.slow
def test_fewer_workers_go_on(sample_archive: Path, alone: Path, tmp_path: Path) -> None:
    """Three, then one: no image is missing that another worker's shard had."""
    with started(3, tmp_path, sample_archive, EPOCHS) as jobs:
        at_work(jobs)
        jobs[2].process.send_signal(SIGKILL)
        assert [job.wait(HEARTBEAT + MARGIN) for job in jobs] == [INTERRUPTED, INTERRUPTED, -SIGKILL]
    code, job = ended(*arguments(tmp_path, sample_archive, EPOCHS), env={}, directory=tmp_path)
    assert code == 0, job.stderr
    assert job.until("resumed")
    check(tmp_path, alone)


@pytest.mark.slow
def test_checkpoint_from_the_bucket_for_all(sample_archive: Path, alone: Path, tmp_path: Path) -> None:
    """Every volume is lost; worker 0 fetches the copy, and the others get it from there."""
    told = (EPOCHS, "--checkpoint-to=bucket")
    with started(2, tmp_path, sample_archive, *told) as jobs:
        jobs[0].until("epoch", epoch=3)
        jobs[1].process.send_signal(SIGTERM)
        assert [job.wait() for job in jobs] == [INTERRUPTED] * 2
    shutil.rmtree(tmp_path / "volume")
    with started(2, tmp_path, sample_archive, *told) as jobs:
        assert [job.wait() for job in jobs] == [0, 0], [job.stderr for job in jobs]
    assert jobs[0].until("resumed")["epoch"] > 3
    check(tmp_path, alone)


class Network:
    """Hosts of their own, network namespaces on one switch: 10.98.0.1 and so on. Needs root."""

    def __init__(self, size: int):
        self.names = [f"catsdogs-{os.getpid()}-{index}" for index in range(size)]
        self.switch = f"catsdogs-{os.getpid()}-switch"

    def __enter__(self) -> "Network":
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _build(self) -> None:
        for name in (self.switch, *self.names):
            _ip("netns", "add", name)
        _ip("-n", self.switch, "link", "add", "switch", "up", "type", "bridge")
        for index, name in enumerate(self.names):
            far = f"port{index}"
            _ip("-n", name, "link", "add", "cable", "type", "veth", "peer", "name", far, "netns", self.switch)
            _ip("-n", self.switch, "link", "set", far, "up", "master", "switch")
            _ip("-n", name, "address", "add", f"{self.address(index)}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _ip("-n", name, "link", "set", device, "up")

    def __exit__(self, *_: object) -> None:
        for name in (self.switch, *self.names):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def address(self, index: int) -> str:
        return f"10.98.0.{index + 1}"

    def cut(self, one: int, other: int) -> None:
        """What these two send each other is lost, and neither is told so."""
        for here, there in ((one, other), (other, one)):
            nobody = ("lladdr", "02:00:00:00:00:99", "dev", "cable", "nud", "permanent")
            _ip("-n", self.names[here], "neighbour", "replace", self.address(there), *nobody)

    def mend(self, one: int, other: int) -> None:
        for here, there in ((one, other), (other, one)):
            _ip("-n", self.names[here], "neighbour", "delete", self.address(there), "dev", "cable")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root, and Debian's package iproute2")
@pytest.mark.parametrize(
    ("size", "cut", "limit", "said"),
    [
        (2, (0, 1), HEARTBEAT + MARGIN, f"is lost: nothing heard for {HEARTBEAT} s"),
        # What the longest step, the first one, took comes on top of it twice.
        (3, (1, 2), HEARTBEAT + 4 * MARGIN, "no step ended for"),
    ],
)
def test_workers_that_are_cut_off(
    size: int, cut: tuple[int, int], limit: int, said: str, sample_archive: Path, alone: Path, tmp_path: Path
) -> None:
    """Nothing passes between two of them any more."""
    with Network(size) as network:
        listed = ",".join(f"{network.address(index)}:2222" for index in range(size))

        def all_of_them() -> list[Job]:
            return [
                Job(
                    *arguments(tmp_path, sample_archive, EPOCHS, *options(index, size, listed, tmp_path)),
                    env={}, directory=tmp_path, through=("ip", "netns", "exec", name),
                )
                for index, name in enumerate(network.names)
            ]  # fmt: skip

        with together(all_of_them()) as jobs:
            at_work(jobs)
            network.cut(*cut)
            assert [job.wait(limit) for job in jobs] == [INTERRUPTED] * size
            for index, job in enumerate(jobs):
                # With two each names the other.
                assert (f"worker {1 - index} {said}" if size == 2 else said) in job.said()
        network.mend(*cut)
        with together(all_of_them()) as jobs:
            assert [job.wait() for job in jobs] == [0] * size, [job.stderr for job in jobs]
    check(tmp_path, alone)


@pytest.mark.slow
def test_worker_that_fails_says_why_to_all(sample_archive: Path, tmp_path: Path) -> None:
    """Its images vanish before it reads them."""
    with started(2, tmp_path, sample_archive, EPOCHS) as jobs:
        jobs[1].until("split")
        [shard] = (tmp_path / "volume" / "worker-1" / "splits").iterdir()
        shutil.rmtree(shard / "train")
        assert [job.wait() for job in jobs] == [INTERRUPTED, 74]
    assert "worker 1 ended with exit code 74: " in jobs[0].said()
    assert jobs[1].said().startswith("catsdogs: worker 1: ")


SLOW_IMPORT = """
import importlib.abc, sys, time
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "tensorflow":
            sys.meta_path.remove(self)
            time.sleep(SECONDS)
if "--worker-index=0" in open("/proc/self/cmdline").read():
    sys.meta_path.insert(0, Slow())
"""


@pytest.mark.slow
def test_worker_that_imports_tensorflow_slowly(sample_archive: Path, tmp_path: Path) -> None:
    """Longer than a heartbeat's limit: the others still send theirs meanwhile."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_IMPORT.replace("SECONDS", str(2 * HEARTBEAT + 2)))
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"}
    listed = addresses(2)
    jobs = [
        Job(
            *arguments(tmp_path, sample_archive, "--epochs=1", "--workers=2", f"--worker-address={listed}"),
            f"--worker-index={index}", env=env, directory=tmp_path,
        )
        for index in (0, 1)
    ]  # fmt: skip
    with together(jobs):
        assert [job.wait() for job in jobs] == [0, 0], [job.stderr for job in jobs]


@pytest.mark.slow
def test_publishing_goes_on_without_the_others(sample_archive: Path, tmp_path: Path) -> None:
    """Worker 0 is killed once it has trained: started again it publishes alone, and the other then ends too."""
    listed = addresses(2)
    with together([worker(index, 2, listed, tmp_path, sample_archive, "--epochs=1") for index in (0, 1)]) as jobs:
        jobs[0].until_true((tmp_path / "volume" / "work" / RUN_ID / "artifacts" / "artifacts.json").exists)
        jobs[0].kill()
        if jobs[0].process.returncode == 0:
            pytest.skip("it had published already")
        assert jobs[1].wait() == INTERRUPTED
    with together([worker(index, 2, listed, tmp_path, sample_archive, "--epochs=1") for index in (1, 0)]) as jobs:
        assert [job.wait() for job in jobs] == [0, 0], [job.stderr for job in jobs]
    assert "assembled" not in jobs[1].names
    check_manifest(files(tmp_path / "runs" / RUN_ID))
