"""What memory there is, and what a training step takes at the least."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from catsdogs.runtime import memory
from catsdogs.runtime.errors import ConfigError

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


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"memory.max": "max\n"}, None),
        ({"memory.max": "1000000\n"}, 1_000_000),
        ({"memory/memory.limit_in_bytes": "2000000\n"}, 2_000_000),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    ],
)
def test_the_limit_is_the_containers_or_else_the_machines(
    files: Mapping[str, str], expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = memory.limit()
    monkeypatch.setattr(memory, "Path", lambda path: tmp_path / path.lstrip("/"))
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert memory.limit() == (machine if expected is None else expected) > 0


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
