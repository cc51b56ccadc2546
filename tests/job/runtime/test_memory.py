"""What memory there is, and what a training step takes at the least."""

import contextlib
import errno
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest.mock import Mock

import pytest

from catsdogs import cli
from catsdogs.runtime import memory
from catsdogs.runtime.errors import ConfigError
from catsdogs.runtime.signals import Interruption
from tests.conftest import REPOSITORY

STEP = """
from pathlib import Path
import numpy as np, tensorflow as tf
from catsdogs.training import devices
from catsdogs.runtime import memory
found = devices.start(require_gpu=False)
from catsdogs.data.loader import Batch
from catsdogs.training.step import Learner
from catsdogs.config.recipes import RECIPES
learner = Learner(RECIPES["baseline"], 150, 1e-4, 1, found, 100)
batch = Batch(np.zeros((40, 150, 150, 3), np.float32), np.zeros(40, np.float32))
before, least = memory.used(), learner.step_bytes(40)
Path("/proc/self/clear_refs").write_text("5")
learner.train_step(batch, tf.zeros(3, tf.float64)).numpy()
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
file_pages = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile"))
print(least, before, 1024 * (int(peak.split()[1]) - int(file_pages.split()[1])))
"""


def of_v2(own: str, files: Mapping[str, str]) -> Mapping[str, str]:
    """The files of a process in the cgroup `own`."""
    return {"/proc/self/cgroup": f"0::{own}\n", **files}


def of_v1(own: str, limits: Mapping[str, int]) -> Mapping[str, str]:
    files = {f"memory/{path}/memory.limit_in_bytes": f"{limit}\n" for path, limit in limits.items()}
    return {"/proc/self/cgroup": f"7:cpu:/x\n4:hugetlb,memory:{own}\n0::/\n", **files}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"memory.max": "max\n"}, None),
        ({"memory.max": "1000000\n"}, 1_000_000),
        ({"memory/memory.limit_in_bytes": "2000000\n"}, 2_000_000),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        # A nested one: that of the own cgroup and of each above it, up to the root.
        (of_v2("/a/b", {"a/b/memory.max": "1000000\n"}), 1_000_000),
        (of_v2("/a/b", {"a/b/memory.max": "max\n", "a/memory.max": "1000000\n"}), 1_000_000),
        (of_v2("/a/b", {"a/b/memory.max": "3000000\n", "a/memory.max": "1000000\n"}), 1_000_000),
        (of_v2("/a/b", {"a/b/memory.max": "3000000\n", "memory.max": "1000000\n"}), 1_000_000),
        (of_v2("/a:b c", {"a:b c/memory.max": "1000000\n"}), 1_000_000),
        (of_v2("/a", {"unified/a/memory.max": "1000000\n"}), 1_000_000),
        # Of others, or of what a cgroup namespace does not show.
        (of_v2("/a", {"b/memory.max": "1000000\n", "a/c/memory.max": "1000000\n"}), None),
        (of_v2("/../../b", {"memory.max": "2000000\n"}), 2_000_000),
        (of_v1("/a/b", {"a/b": 1_000_000, "a": 2_000_000}), 1_000_000),
        (of_v1("/a/b", {"a/b": 9223372036854771712, "a": 2_000_000}), 2_000_000),
        # As in a container without a cgroup namespace: the path is the node's, the mount the container's.
        (of_v1("/docker/0123", {"": 2_000_000}), 2_000_000),
        ({"/proc/self/cgroup": "nonsense\n\n5:memory\n", "memory.max": "1000000\n"}, 1_000_000),
    ],
)
def test_the_limit_is_the_containers_or_else_the_machines(
    files: Mapping[str, str], expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = memory.limit()
    monkeypatch.setattr(memory, "Path", lambda path: tmp_path / path.lstrip("/"))
    for name, text in files.items():
        path = tmp_path / name[1:] if name.startswith("/") else tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert memory.limit() == (machine if expected is None else expected) > 0


@contextlib.contextmanager
def nested_cgroup(size: int) -> Iterator[Path]:
    """A cgroup with a limit of `size` bytes, and one without a limit in it, which is yielded."""
    own = next((line for line in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in line), None)
    if own is None:
        pytest.skip("no memory controller of cgroup v1")
    limited = Path("/sys/fs/cgroup/memory", own.split(":", 2)[2].strip("/"), f"catsdogs-{secrets.token_hex(4)}")
    try:
        (limited / "inner").mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"cannot make a cgroup: {error}")
    try:
        (limited / "memory.limit_in_bytes").write_text(str(size))
        yield limited / "inner"
    finally:
        (limited / "inner").rmdir()
        limited.rmdir()


def test_a_limit_of_a_cgroup_above_the_own_one_is_seen(tmp_path: Path) -> None:
    with nested_cgroup(200 << 20) as cgroup:
        through = ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs && exec "$@"', "sh"]
        code, error = ended(["run"], tmp_path, through)
    assert code == 78, error
    assert "a training needs at least 256 MiB of memory, and only 200 MiB are available: raise" in error


@pytest.mark.parametrize(
    ("command", "option", "kilobytes"),
    [
        ("prepare", "-v", 90_000),
        ("prepare", "-d", 60_000),
        ("run", "-v", 600_000),
        ("run", "-v", 1_500_000),
        ("run", "-d", 200_000),
        ("run", "-d", 400_000),
        ("runs", "-v", 90_000),
    ],
)
def test_a_resource_limit_that_is_too_low_is_one_line(
    command: str, option: str, kilobytes: int, tmp_path: Path
) -> None:
    code, error = ended([command], tmp_path, ["sh", "-c", f'ulimit {option} {kilobytes} && exec "$@"', "sh"])
    assert code == 78, error
    assert re.fullmatch(r"catsdogs: .* needs at least \d+ MiB of .*: raise .*\n", error)


def ended(arguments: list[str], directory: Path, through: list[str]) -> tuple[int, str]:
    """Run the command on a small archive, started by `through`; return its exit code and standard error."""
    output = [f"--output={directory}/runs"]
    if arguments != ["runs"]:
        archive = REPOSITORY / "tests/golden/dogs-vs-cats.zip"
        counts = ("--train-per-class=2", "--validation-per-class=1", "--test-per-class=1", "--batch-size=4")
        output += [f"--archive={archive}", f"--volume={directory}/volume", *counts]
    process = subprocess.run(
        [*through, sys.executable, "-m", "catsdogs", *arguments, *output], capture_output=True, text=True
    )
    return process.returncode, process.stderr


def of(kind: type[BaseException], *arguments: object, cause: BaseException | None = None) -> BaseException:
    error = kind(*arguments)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 3.00 GiB for an array"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("lib.so: failed to map segment from shared object"),
        ImportError("lib.so: cannot allocate memory in static TLS block"),
        RuntimeError("can't start new thread"),
        of(ValueError, "wrapped", cause=MemoryError()),
    ],
)
def test_lack_of_memory_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(cli, "complain", lines.append)
    monkeypatch.setattr(cli.catsdogs, "main", Mock(side_effect=error))
    assert cli._exit_code(Interruption()) == 78
    [line] = lines
    assert line.startswith("not enough memory")
    assert line.endswith(memory.ADVICE)


@pytest.mark.parametrize(
    "error", [ValueError("x"), RuntimeError("x"), ImportError("no module"), OSError(errno.EIO, "")]
)
def test_another_exception_is_not_lack_of_memory(error: Exception) -> None:
    assert memory.shortage(error) is None


def test_too_little_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "limit", lambda: 200 << 20)
    memory.require(200 << 20, "a training")
    with pytest.raises(ConfigError, match=r"a training needs at least 256 MiB .* 200 MiB .* raise"):
        memory.require(memory.TENSORFLOW, "a training")


@pytest.mark.slow
def test_what_a_step_takes_is_not_less_than_was_reckoned() -> None:
    """Else runs that fit would be refused. Nor is it many times as much: then none that does not fit would be."""
    process = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    least, before, peak = map(int, process.stdout.split())
    # By hand: the outputs of four convolutions and two dense layers, 40 images of them; a gradient a parameter.
    outputs = 148 * 148 * 32 + 72 * 72 * 64 + 34 * 34 * 128 + 15 * 15 * 128 + 512 + 1
    assert least == 4 * (40 * outputs + 3_453_121)
    assert least < peak - before < 3 * least
