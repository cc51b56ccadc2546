from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from catsdogs.runtime import cores


@pytest.mark.parametrize(
    ("files", "affinity", "expected"),
    [
        ({}, 8, 8),
        ({"cpu.max": "max 100000\n"}, 8, 8),
        ({"cpu.max": "200000 100000\n"}, 8, 2),
        ({"cpu.max": "250000 100000\n"}, 8, 2),
        ({"cpu.max": "50000 100000\n"}, 8, 1),
        ({"cpu.max": "1600000 100000\n"}, 8, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8, 8),
        ({"cpu.max": "nonsense"}, 1, 1),
    ],
)
def test_cores_are_those_of_the_containers_quota(
    files: Mapping[str, str], affinity: int, expected: int, cgroup: Callable[[Mapping[str, str]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cgroup(files)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(affinity)))
    assert cores.usable() == expected


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    """Puts files into what this process takes for /sys/fs/cgroup."""
    root = tmp_path / "sys/fs/cgroup"
    monkeypatch.setattr(cores, "Path", lambda path: tmp_path / path.lstrip("/"))

    def put(files: Mapping[str, str]) -> None:
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)

    return put
