import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from catsdogs.runtime.errors import Interrupted, VolumeError
from catsdogs.storage import volume

REPOSITORY = Path(__file__).resolve().parents[2]


class Stop(Exception):
    pass


def give_up(file: IO[bytes], error: type[BaseException]) -> None:
    file.write(b"half")
    raise error


@pytest.fixture(params=[True, False], ids=["durable", "not durable"])
def durable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_new_file_has_its_name_only_when_it_is_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "deep" / "er" / "name"
    with volume.new_file(path, durable) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert os.listdir(path.parent) == ["name"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_new_file_replaces_the_old_one_at_the_end(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "name"
    path.write_bytes(b"before")
    with volume.new_file(path, durable) as file:
        file.write(b"after")
        file.flush()
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after"


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [[], ["name"]], ids=["new", "overwritten"])
def test_a_new_file_that_is_given_up_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException], before: list[str]
) -> None:
    for name in before:
        (tmp_path / name).write_bytes(b"before")
    with pytest.raises(error), volume.new_file(tmp_path / "name") as file:
        give_up(file, error)
    assert os.listdir(tmp_path) == before
    assert all((tmp_path / name).read_bytes() == b"before" for name in before)


def test_a_writer_that_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    code = """if True:
        import os, pathlib, signal
        from catsdogs.storage import volume
        with volume.lock(pathlib.Path(".")), volume.new_file(pathlib.Path("name")) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY / "job")})
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "name").exists()
    volume.write(tmp_path / "name", b"whole")
    assert (tmp_path / "name").read_bytes() == b"whole"
    assert len(os.listdir(tmp_path)) == 4
    with volume.lock(tmp_path):
        assert sorted(os.listdir(tmp_path)) == [".lock", volume.MADE, "name"]


def test_a_file_where_a_directory_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VolumeError, match=f"^{tmp_path}/file.*: check the volume$"):
        volume.write(tmp_path / "file" / "name", b"")


def test_a_full_volume_is_named_and_left_as_it_was(small_volume: Path, durable: bool) -> None:
    volume.write(small_volume / "name", b"before", durable)
    with pytest.raises(VolumeError, match=f"^{small_volume}/name: .*the volume is full; give it more room"):
        volume.write(small_volume / "name", bytes(1 << 20), durable)
    assert os.listdir(small_volume) == ["name"]
    assert (small_volume / "name").read_bytes() == b"before"


def test_room_is_taken_before_it_is_written_to(small_volume: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        volume.unnamed_file(small_volume, 1 << 20)
    with volume.unnamed_file(small_volume / "deeper", 128 << 10) as file:
        assert os.fstat(file.fileno()).st_size == 128 << 10
        assert os.statvfs(small_volume).f_bavail * os.statvfs(small_volume).f_bsize <= 128 << 10
        assert os.listdir(small_volume / "deeper") == []


def test_a_read_only_volume_is_named(small_volume: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_volume)], check=True)
    with pytest.raises(VolumeError, match=f"^{small_volume}/.*: it is read-only; mount it writable$"):
        volume.write(small_volume / "name", b"")


Hold = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Another process that holds the directory's lock for as long as it lives."""
    processes = []

    def start(directory: Path) -> "subprocess.Popen[str]":
        code = """if True:
            import pathlib, sys, time
            from catsdogs.storage import volume
            with volume.lock(pathlib.Path(sys.argv[1])):
                print("held", flush=True)
                time.sleep(60)
        """
        command = [sys.executable, "-c", code, str(directory)]
        process = subprocess.Popen(
            command, env={"PYTHONPATH": str(REPOSITORY / "job")}, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_directory_is_one_processs_until_that_is_dead(tmp_path: Path, hold: Hold) -> None:
    holder = hold(tmp_path / "run")
    with pytest.raises(Interrupted, match=f"^{tmp_path}/run: another process"), volume.lock(tmp_path / "run"):
        pytest.fail("two hold it")
    with volume.lock(tmp_path / "another run"):
        pass
    holder.kill()
    holder.wait()
    with volume.lock(tmp_path / "run"):
        pass


def test_a_directory_is_free_after_the_block(tmp_path: Path, hold: Hold) -> None:
    with pytest.raises(Stop), volume.lock(tmp_path):
        raise Stop
    hold(tmp_path)


def test_a_volume_that_knows_no_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(VolumeError, match=f"^{tmp_path}: No locks available"), volume.lock(tmp_path):
        pytest.fail("not locked")


def test_an_error_of_the_block_is_not_the_locks(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), volume.lock(tmp_path):
        (tmp_path / "absent").read_bytes()
