"""The number of CPU cores that the process may use, and of threads that compute."""

import os
from pathlib import Path

THREADS = "TF_NUM_INTRAOP_THREADS"
MAX_THREADS = 1024


def usable() -> int:
    """Return the CPU cores that this process may use, within the container's quota; at least 1."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, min(available, int(quota))) if quota else available


def threads() -> int:
    """Return how many threads TensorFlow computes an operation with: TF_NUM_INTRAOP_THREADS, its own variable, or the
    usable cores; at most MAX_THREADS."""
    given = os.environ.get(THREADS, "")
    count = int(given) if given.isdecimal() and len(given) < 10 else 0
    return min(count or usable(), MAX_THREADS)


def _quota() -> float | None:
    """Return the cores of the cgroup's CPU quota (v2 or v1); None if there is no quota."""
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
