"""A volume that is full, read-only, somebody else's, or not as one left it: exit 74, or it goes on."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.proxy import flipped
from tests.faults.running import RUN_ID, Job, at_evaluating, ended
from tests.published import objects
from tests.servers import S3Server

FULL = 74
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount and become somebody else")


@contextlib.contextmanager
def mounted(directory: Path, size: int) -> Iterator[Path]:
    """A volume of so many bytes."""
    directory.mkdir()
    arguments = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    mounting = subprocess.run(arguments, capture_output=True, text=True)
    if mounting.returncode:
        pytest.skip(f"cannot mount a small volume: {mounting.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def remount(directory: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", directory], check=True)


def size_of(path: Path) -> int:
    """Bytes on a tmpfs, which has pages of 4096 bytes."""
    return sum(-(-file.stat().st_size // 4096) * 4096 for file in path.rglob("*") if file.is_file())


def half_of(undisturbed: Undisturbed, stage: str) -> int:
    """The size of a volume that lasts as far as into the middle of what the stage writes."""
    volume = undisturbed.volume
    unpacked, split = size_of(volume / "archive"), size_of(volume / "splits")
    before = {
        "unpacking": unpacked // 2,
        "splitting": unpacked + split // 2,
        "a checkpoint": unpacked + split + 30_000 + model_size(undisturbed),
    }
    return before[stage]


def model_size(undisturbed: Undisturbed) -> int:
    """Bytes. A checkpoint has three times as many: the variables, the optimizer's of them, and the best weights."""
    return (undisturbed.volume / "work" / RUN_ID / "artifacts" / "model.keras").stat().st_size


@ROOT
@pytest.mark.parametrize(
    ("stage", "reached"), [("unpacking", "started"), ("splitting", "unpacked"), ("a checkpoint", "model")]
)
def test_full_volume(
    stage: str, reached: str, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """One line, 74, and no manifest; with more room the same command ends as if nothing had happened."""
    with mounted(tmp_path / "volume", half_of(undisturbed, stage)) as volume:
        check_full_then_enough(reached, undisturbed, seaweedfs, bucket, volume, tmp_path)


def check_full_then_enough(
    reached: str, undisturbed: Undisturbed, server: S3Server, bucket: str, volume: Path, scratch: Path
) -> None:
    arguments = undisturbed.arguments(bucket, volume)
    code, job = ended("run", *arguments, env=server.environment, directory=scratch)
    assert code == FULL, (job.names, job.stderr)
    assert "the volume is full; give it more room, or fewer images" in job.said()
    assert reached in job.names
    assert "manifest.json" not in objects(server, bucket, f"runs/{RUN_ID}/")
    remount(volume, "size=100m")
    undisturbed.finish(server, bucket, volume, scratch)


@ROOT
@pytest.mark.slow
def test_volume_that_is_full_once_it_is_trained(
    undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """It is stopped after the last checkpoint, the largest thing that it writes, and then is left less room."""
    with mounted(tmp_path / "volume", 100_000_000) as volume:
        arguments = undisturbed.arguments(bucket, volume)
        with Job("run", *arguments, env=seaweedfs.environment, directory=tmp_path) as job:
            at_evaluating(job, volume)
            job.process.send_signal(signal.SIGTERM)
            assert job.wait() == 75
        remount(volume, f"size={size_of(volume) + model_size(undisturbed) // 2}")
        check_full_then_enough("evaluated", undisturbed, seaweedfs, bucket, volume, tmp_path)


@ROOT
@pytest.mark.slow
@pytest.mark.parametrize("part", range(16))
def test_volume_that_is_full_anywhere(
    part: int, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Sizes from one page to what the run needs: it is the volume's fault each time, never a bug."""
    most = half_of(undisturbed, "a checkpoint") + 10 * model_size(undisturbed)
    with mounted(tmp_path / "volume", int(4096 + most * (part / 16) ** 2)) as volume:
        arguments = undisturbed.arguments(bucket, volume)
        code, job = ended("run", *arguments, env=seaweedfs.environment, directory=tmp_path)
        assert code in (0, FULL), job.stderr
        if code:
            assert "the volume is full" in job.said()
        remount(volume, "size=100m")
        undisturbed.finish(seaweedfs, bucket, volume, tmp_path)


@ROOT
@pytest.mark.parametrize("pages", range(1, 9))
def test_volume_that_is_full_from_the_start(
    pages: int, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Not even what was said finds room on it."""
    with mounted(tmp_path / "volume", pages * 4096) as volume:
        arguments = undisturbed.arguments(bucket, volume)
        code, job = ended("prepare", *arguments, env=seaweedfs.environment, directory=tmp_path)
    assert code == FULL, job.stderr
    assert "the volume is full" in job.said()


@ROOT
def test_read_only_volume(undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path) -> None:
    with mounted(tmp_path / "volume", 50_000_000) as volume:
        remount(volume, "ro")
        arguments = undisturbed.arguments(bucket, volume)
        code, job = ended("prepare", *arguments, env=seaweedfs.environment, directory=tmp_path)
        assert code == FULL
        assert "it is read-only; mount it writable" in job.said()
        remount(volume, "rw")
        assert ended("prepare", *arguments, env=seaweedfs.environment, directory=tmp_path)[0] == 0


@ROOT
@pytest.mark.parametrize("what", [".", "work", "splits", "splits/*/split.json", "work/*/settings.json"])
def test_somebody_elses_volume(
    what: str, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """As a user in a container finds it who is not of the volume's group: root without the right to pass by modes."""
    volume, nobody = tmp_path / "volume", 65534
    without = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")
    if shutil.which("setpriv") is None or subprocess.run([*without, "true"]).returncode:
        pytest.skip("no setpriv, which takes capabilities away")
    shutil.copytree(undisturbed.volume, volume)
    [theirs] = [volume] if what == "." else volume.glob(what)
    os.chown(theirs, nobody, nobody)
    theirs.chmod(0o700 if theirs.is_dir() else 0o600)
    arguments = undisturbed.arguments(bucket, volume)
    with Job("prepare", *arguments, env=seaweedfs.environment, directory=tmp_path, through=without) as job:
        assert job.wait() == FULL, job.stderr
    assert "permission denied; make it writable for this user" in job.said()


def test_lock_of_a_dead_process(undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path) -> None:
    """A lock file proves nothing: the kernel frees a lock with its holder's end."""
    volume = tmp_path / "volume"
    for directory in ("archive", f"work/{RUN_ID}"):
        (volume / directory).mkdir(parents=True)
        (volume / directory / ".lock").write_text("4194304")
    arguments = undisturbed.arguments(bucket, volume)
    code, job = ended("prepare", *arguments, env=seaweedfs.environment, directory=tmp_path)
    assert (code, job.stderr) == (0, "")


def test_lock_of_a_living_process(undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path) -> None:
    """Two processes on one volume do not work on one run: the second says so, and a later try helps."""
    volume = tmp_path / "volume"
    arguments = undisturbed.arguments(bucket, volume)
    with Job("run", *arguments, env=seaweedfs.environment, directory=tmp_path) as first:
        first.until("started")
        code, second = ended("run", *arguments, env=seaweedfs.environment, directory=tmp_path)
        first.kill()
    assert code == 75
    assert "another process is using it" in second.said()


def test_leftovers(undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path) -> None:
    """What killed processes, other versions and people left on the volume neither counts nor stays in the way."""
    volume = tmp_path / "volume"
    arguments = undisturbed.arguments(bucket, volume)
    assert ended("prepare", *arguments, env=seaweedfs.environment, directory=tmp_path)[0] == 0
    [split] = (volume / "splits").iterdir()
    unfinished = [
        volume / "archive" / ".0123456789abcdef.zip.x7.part",
        split / "train" / "cats" / ".cat.0.jpg.abc.part",
        split / ".split.json.abc.part",
        volume / "work" / RUN_ID / ".settings.json.abc.part",
        volume / "work" / RUN_ID / "checkpoint" / ".000003-000000.npz.abc.part",
    ]
    strangers = [
        split / "train" / "cats" / "cat.999.jpg",
        split / "train" / "dogs" / "Thumbs.db",
        split / "validation" / "birds" / "bird.0.jpg",
    ]
    theirs = [
        volume / "lost+found" / "#12",
        volume / "notes.txt",
        volume / "work" / "another-run" / "settings.json",
        volume / "splits" / "0123456789abcdef" / "half.jpg",
        volume / "work" / RUN_ID / "checkpoint" / "latest.keras",
        volume / "work" / RUN_ID / "checkpoint" / "000009-000000.npz",
        volume / "work" / RUN_ID / "artifacts" / "model.keras",
    ]
    for path in [*unfinished, *strangers, *theirs]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left over")
    (split / "test" / "cats" / "cat.998.jpg").symlink_to("/etc/passwd")
    job = undisturbed.finish(seaweedfs, bucket, volume, tmp_path)
    assert "split-reused" in job.names
    assert "checkpoint-damaged" in job.names, "the one that is no checkpoint"
    others = [*unfinished, *strangers, *theirs[:-1]]
    assert all(path.read_bytes() == b"left over" for path in others), "what is not recorded is not the run's own"
    assert Path("/etc/passwd").exists()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("settings.json", "flipped"),
        ("settings.json", "empty"),
        ("prepared.json", "flipped"),
        ("prepared.json", "empty"),
        ("artifacts/artifacts.json", "flipped"),
        ("artifacts/artifacts.json", "empty"),
        ("artifacts/model.keras", "flipped"),
        ("artifacts/model.keras", "empty"),
    ],
)  # fmt: skip
def test_damaged_file_of_a_trained_run(
    name: str, damage: str, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """It is never published: one clear line and no manifest, or, with a retry of `run`, what it should have been."""
    volume = undisturbed.trained(tmp_path / "volume")
    path = volume / "work" / RUN_ID / name
    good = path.read_bytes()
    path.write_bytes(flipped(good, len(good) // 2) if damage == "flipped" else b"")
    arguments = undisturbed.arguments(bucket, volume)
    code, job = ended("publish", *arguments, env=seaweedfs.environment, directory=tmp_path)
    if code == 0:
        undisturbed.check(objects(seaweedfs, bucket, f"runs/{RUN_ID}/"), tmp_path)
    else:
        assert code in (65, 74, 78), job.stderr
        job.said()
        assert "manifest.json" not in objects(seaweedfs, bucket, f"runs/{RUN_ID}/")
