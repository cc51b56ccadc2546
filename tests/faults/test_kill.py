"""Kill -9 at any moment, any number of times: the run ends as if nothing had happened."""

import math
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.proxy import Fault, Proxy, flipped
from tests.faults.running import RUN_ID, STAGES, Job, ended
from tests.published import objects
from tests.servers import S3Server

SEED = 20130925
INSTANTS = 25
"""Drawn in the long suite, one from each of as many equal parts of the undisturbed run."""

HELD = {
    "opening the archive": Fault("hold", "GET", "dogs-vs-cats.zip"),
    "fetching": Fault("hold", "GET", "dogs-vs-cats.zip", first=4),
    "claiming the run id": Fault("hold", "PUT", "*/run.json"),
    "uploading": Fault("hold", "PUT", "*/model.keras"),
    "reading back": Fault("hold", "GET", "*/model.keras"),
    "before the manifest": Fault("hold", "PUT", "*/manifest.json"),
    "after the manifest": Fault("silence", "PUT", "*/manifest.json", seconds=60),
}
"""Instants in the storage's requests: the proxy holds one back, so that the kill comes in time."""


def killed_at(stage: str, undisturbed: Undisturbed, server: S3Server, bucket: str, volume: Path, scratch: Path) -> Job:
    """The run, started and killed when it has come to the stage."""
    held = [HELD[stage]] if stage in HELD else []
    with Proxy(server, *held) as proxy:
        arguments = undisturbed.arguments(bucket, volume)
        with Job("run", *arguments, env=proxy.environment, directory=scratch) as job:
            if held:
                proxy.reached(held[0])
            else:
                STAGES[stage](job, volume)
            job.kill()
    assert job.process.returncode == -9
    return job


def published(server: S3Server, bucket: str) -> dict[str, bytes]:
    return objects(server, bucket, f"runs/{RUN_ID}/")


def test_killed_in_five_stages_of_one_run(
    undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Killed again and again while it fetches, compiles, trains, evaluates and publishes."""
    volume = tmp_path / "volume"
    for stage in ("fetching", "compiling", "mid-epoch", "evaluating", "before the manifest"):
        killed_at(stage, undisturbed, seaweedfs, bucket, volume, tmp_path)
        assert "manifest.json" not in published(seaweedfs, bucket), stage
    undisturbed.finish(seaweedfs, bucket, volume, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*HELD, *STAGES])
def test_killed_in_a_stage(
    stage: str, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    killed_at(stage, undisturbed, seaweedfs, bucket, volume, tmp_path)
    assert "manifest.json" not in published(seaweedfs, bucket)
    undisturbed.finish(seaweedfs, bucket, volume, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(INSTANTS))
def test_killed_at_a_drawn_instant(
    part: int, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    instant = (part + random.Random(SEED + part).random()) / INSTANTS * undisturbed.seconds
    arguments = undisturbed.arguments(bucket, tmp_path / "volume")
    with Job("run", *arguments, env=seaweedfs.environment, directory=tmp_path) as job:
        try:
            # The machine may be faster now than it was: then the run has ended, and the kill comes too late.
            assert job.wait(instant) == 0
        except subprocess.TimeoutExpired:
            job.kill()
    undisturbed.finish(seaweedfs, bucket, tmp_path / "volume", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again(
    seed: int, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Each start lives for a while drawn from the whole run's; what is done is never lost, so it ends some day."""
    draw, arguments = random.Random(SEED + seed), undisturbed.arguments(bucket, tmp_path / "volume")
    for _ in range(30):
        with Job("run", *arguments, env=seaweedfs.environment, directory=tmp_path) as job:
            try:
                assert job.wait(draw.uniform(0.3, 1.2) * undisturbed.seconds) == 0, job.stderr
                break
            except subprocess.TimeoutExpired:
                job.kill()
    else:
        pytest.fail("it never came to its end")
    undisturbed.check(published(seaweedfs, bucket), tmp_path)


def test_no_more_than_one_checkpoint_interval_is_lost(
    undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """After a kill in mid-epoch it goes on from the newest checkpoint; nothing is fetched or split again."""
    volume = tmp_path / "volume"
    job = killed_at("mid-epoch", undisturbed, seaweedfs, bucket, volume, tmp_path)
    newest = max(path.stem for path in (volume / "work" / RUN_ID / "checkpoint").glob("*.npz"))
    epoch, step = map(int, newest.split("-"))
    assert sum(name == "epoch" for name in job.names) in (epoch, epoch - 1), "each epoch has its checkpoint"
    with Proxy(seaweedfs) as proxy:
        arguments = undisturbed.arguments(bucket, volume)
        code, job = ended("run", *arguments, env=proxy.environment, directory=tmp_path)
    assert (code, job.stderr) == (0, "")
    resumed = job.until("resumed")
    assert (resumed["epoch"] - 1, resumed["step"]) == (epoch, step)
    assert [event["epoch"] for event in job.events if event["event"] == "epoch"] == list(range(epoch + 1, 7))
    assert {"unpacked", "split"}.isdisjoint(job.names)
    assert proxy.sent("dogs-vs-cats.zip") < 10_000, "only the zip's directory, to see that it is the same archive"
    undisturbed.check(published(seaweedfs, bucket), tmp_path)


@pytest.mark.parametrize("damage", ["flipped", pytest.param("cut", marks=pytest.mark.slow)])
def test_damaged_newest_checkpoint(
    damage: str, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """It is reported, and the one before is used."""
    volume = tmp_path / "volume"
    killed_at("between epochs", undisturbed, seaweedfs, bucket, volume, tmp_path)
    before, newest = sorted((volume / "work" / RUN_ID / "checkpoint").glob("*.npz"))[-2:]
    good = newest.read_bytes()
    newest.write_bytes(flipped(good, len(good) // 2) if damage == "flipped" else good[: len(good) // 2])
    job = undisturbed.finish(seaweedfs, bucket, volume, tmp_path)
    assert job.until("checkpoint-damaged")["checkpoint"] == str(newest)
    assert job.until("resumed")["checkpoint"] == str(before)


@pytest.mark.slow
@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (403, "AccessDenied")])
def test_checkpoints_that_cannot_be_uploaded(
    status: int, code: str, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """They are worth nothing to a run that nothing happens to: it ends as it should."""
    with Proxy(seaweedfs, Fault("error", "PUT", "*.npz", count=math.inf, status=status, code=code)) as proxy:
        arguments = undisturbed.arguments(bucket, tmp_path / "volume", "--checkpoint-to=bucket")
        ended_with, job = ended("run", *arguments, env=proxy.environment, directory=tmp_path)
    assert (ended_with, job.stderr) == (0, "")
    undisturbed.check(published(seaweedfs, bucket), tmp_path)


@pytest.mark.parametrize(
    "damage", ["none", pytest.param("newest", marks=pytest.mark.slow), pytest.param("all", marks=pytest.mark.slow)]
)
def test_volume_is_lost(
    damage: str, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Killed, and the volume gone: it goes on from the checkpoints in the bucket, while they are whole.

    That the storage takes no more of them from the third on holds up no training.
    """
    volume, kept = tmp_path / "volume", f"runs/{RUN_ID}/checkpoint/"
    # Checkpoints after an epoch alone, as others may follow each other faster than they are uploaded.
    more = ("--checkpoint-to=bucket", "--checkpoint-every=1h")
    arguments = undisturbed.arguments(bucket, volume, *more)
    with (
        Proxy(seaweedfs, Fault("hold", "PUT", "*.npz", first=3, count=math.inf)) as proxy,
        Job("run", *arguments, env=proxy.environment, directory=tmp_path) as job,
    ):
        proxy.reached(proxy.plan[0])
        job.until("epoch", epoch=6)
        job.kill()
    shutil.rmtree(volume)
    there = objects(seaweedfs, bucket, kept)
    before, newest = sorted(there)
    for name in {"none": [], "newest": [newest], "all": [before, newest]}[damage]:
        body = flipped(there[name], len(there[name]) // 2)
        seaweedfs.client().put_object(Bucket=bucket, Key=kept + name, Body=body)
    job = undisturbed.finish(seaweedfs, bucket, volume, tmp_path, *more)
    assert job.names.count("checkpoint-damaged") == {"none": 0, "newest": 1, "all": 2}[damage]
    if damage == "all":
        assert "resumed" not in job.names
    else:
        used = newest if damage == "none" else before
        assert Path(job.until("resumed")["checkpoint"]).name == used
