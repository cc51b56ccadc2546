"""SIGTERM and SIGINT in every stage: exit 75 within ten seconds, and the same command goes on from there."""

import random
import signal
import time
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.proxy import Fault, Proxy
from tests.faults.running import RUN_ID, STAGES, Job, at_compiling, at_handler
from tests.published import objects
from tests.servers import S3Server

WITHIN = 10
"""Seconds from a signal to the end of the process, in the chart's grace period three times."""
INTERRUPTED = 75

STALLED = {
    "opening the output": Fault("hold", "GET", ""),
    "opening the archive": Fault("hold", "GET", "dogs-vs-cats.zip"),
    "fetching": Fault("hold", "GET", "dogs-vs-cats.zip", first=4),
    "uploading": Fault("hold", "PUT", "*/model.keras"),
    "reading back": Fault("hold", "GET", "*/model.keras"),
    "writing the manifest": Fault("hold", "PUT", "*/manifest.json"),
}
"""Requests that get no answer any more: whoever waited for one could wait for ever."""


def signalled(
    stage: str, number: Signals, undisturbed: Undisturbed, server: S3Server, bucket: str, volume: Path, scratch: Path
) -> float:
    """Starts the run and sends it the signal when it has come to the stage; the seconds that it then took to end."""
    stalled = [STALLED[stage]] if stage in STALLED else []
    with Proxy(server, *stalled) as proxy:
        arguments = undisturbed.arguments(bucket, volume)
        with Job("run", *arguments, env=proxy.environment, directory=scratch) as job:
            if stalled:
                proxy.reached(stalled[0])
            else:
                STAGES[stage](job, volume)
            job.process.send_signal(number)
            began = time.monotonic()
            assert job.wait() == INTERRUPTED, (stage, job.stderr)
            took = time.monotonic() - began
    assert signal.Signals(number).name in job.stderr
    assert job.stderr.splitlines()[-1].startswith("catsdogs: ")
    assert "Traceback" not in job.stderr
    assert "manifest.json" not in objects(server, bucket, f"runs/{RUN_ID}/")
    return took


def test_interrupted_in_six_stages_of_one_run(
    undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    stages = ("splitting", "importing TensorFlow", "compiling", "mid-epoch", "evaluating", "uploading")
    for stage, number in zip(stages, [SIGTERM, SIGINT] * 3, strict=True):
        signalled(stage, number, undisturbed, seaweedfs, bucket, volume, tmp_path)
    undisturbed.finish(seaweedfs, bucket, volume, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [SIGTERM, SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("stage", [*STALLED, *STAGES])
def test_interrupted_in_a_stage(
    stage: str, number: Signals, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    took = signalled(stage, number, undisturbed, seaweedfs, bucket, tmp_path / "volume", tmp_path)
    assert took < WITHIN
    undisturbed.finish(seaweedfs, bucket, tmp_path / "volume", tmp_path)


@pytest.mark.parametrize("number", [SIGTERM, SIGINT], ids=["SIGTERM", "SIGINT"])
def test_interrupted_as_soon_as_it_can_be(
    number: Signals, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """The handler is there before anything slow is imported, and from then on the signal is minded."""
    arguments = undisturbed.arguments(bucket, tmp_path / "volume")
    with Job("run", *arguments, env=seaweedfs.environment, directory=tmp_path) as job:
        at_handler(job, tmp_path)
        loaded = Path(f"/proc/{job.pid}/maps").read_text()
        job.process.send_signal(number)
        assert job.wait() == INTERRUPTED, job.stderr
    assert not any(f"/{library}/" in loaded for library in ("numpy", "PIL", "tensorflow", "site-packages"))


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=() if part in (0, 4) else pytest.mark.slow) for part in range(20)]
)
def test_interrupted_in_the_first_half_second(
    part: int, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """While Python itself starts, nothing can mind a SIGTERM: then it ends the process as it ends any other."""
    arguments = undisturbed.arguments(bucket, tmp_path / "volume")
    with Job("run", *arguments, env=seaweedfs.environment, directory=tmp_path) as job:
        time.sleep((part + random.Random(part).random()) * 0.5 / 20)
        minded = job.catches(SIGTERM)
        job.process.send_signal(SIGTERM)
        code = job.wait()
    assert code == INTERRUPTED or (code == -SIGTERM and not minded), job.stderr
    assert "Traceback" not in job.stderr


def test_what_is_done_is_saved(undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path) -> None:
    """However rarely checkpoints are written else: it goes on with the very next batch."""
    volume, more = tmp_path / "volume", "--checkpoint-every=1h"
    arguments = undisturbed.arguments(bucket, volume, more)
    with Job("run", *arguments, env=seaweedfs.environment, directory=tmp_path) as job:
        at_compiling(job, volume)
        job.process.send_signal(SIGTERM)
        assert job.wait() == INTERRUPTED, job.stderr
    [saved] = (volume / "work" / RUN_ID / "checkpoint").glob("*.npz")
    epoch, step = map(int, saved.stem.split("-"))
    # The signal came while the first step was compiled.
    assert (epoch, step) in ((0, 1), (0, 2))
    resumed = undisturbed.finish(seaweedfs, bucket, volume, tmp_path, more).until("resumed")
    assert (resumed["epoch"], resumed["step"]) == (1, step)


def test_signal_after_all_is_done(undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path) -> None:
    """A run that is published is published, and has not failed."""
    arguments = undisturbed.arguments(bucket, tmp_path / "volume")
    with Job("run", *arguments, env=seaweedfs.environment, directory=tmp_path) as job:
        job.until("published")
        while job.process.poll() is None and job.catches(SIGTERM):
            time.sleep(0.001)
        job.process.send_signal(SIGTERM)
        assert job.wait() in (0, INTERRUPTED)


def test_second_signal_ends_at_once(undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path) -> None:
    """As whoever presses Ctrl-C twice wants it: also where the first one waits for a network that stalls."""
    with Proxy(seaweedfs, STALLED["fetching"]) as proxy:
        arguments = undisturbed.arguments(bucket, tmp_path / "volume")
        with Job("run", *arguments, env=proxy.environment, directory=tmp_path) as job:
            proxy.reached(STALLED["fetching"])
            job.process.send_signal(SIGINT)
            job.until_true(lambda: not job.has_pending(SIGINT))
            time.sleep(0.1)
            began = time.monotonic()
            job.process.send_signal(SIGINT)
            assert job.wait() == INTERRUPTED, job.stderr
            assert time.monotonic() - began < 1
    assert len(job.stderr.splitlines()) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_interrupted_again_and_again(
    seed: int, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """No batch is repeated and none skipped, however often it is stopped."""
    draw, arguments = random.Random(seed), undisturbed.arguments(bucket, tmp_path / "volume")
    codes: list[int] = []
    while len(codes) < 40 and 0 not in codes:
        with Job("run", *arguments, env=seaweedfs.environment, directory=tmp_path) as job:
            # Most of it is spent on starting; what then fits in is a few steps.
            wait = draw.uniform(0.3, 1.0 + 0.1 * len(codes)) * undisturbed.seconds
            deadline = time.monotonic() + wait
            while job.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            job.process.send_signal(SIGTERM)
            codes.append(job.wait())
    assert set(codes) <= {0, INTERRUPTED}, codes
    assert codes[-1] == 0, codes
    undisturbed.check(objects(seaweedfs, bucket, f"runs/{RUN_ID}/"), tmp_path)
