"""How many CPU cores the process may use."""

import os
from pathlib import Path


def usable() -> int:
    """CPU cores that this process may use: the container's quota where there is one, at least 1."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, min(available, int(quota))) if quota else available


def _quota() -> float | None:
    """Cores of the cgroup's CPU quota, v2 or v1; None without one."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        folder = Path("/sys/fs/cgroup/cpu")
        microseconds = int((folder / "cpu.cfs_quota_us").read_text())
        return microseconds / int((folder / "cpu.cfs_period_us").read_text()) if microseconds > 0 else None
    except (OSError, ValueError):
        return None
