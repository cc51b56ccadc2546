"""The memory that the process may use, and the check that it suffices.

The kernel kills a process that exceeds the container's limit, without a message, and a retry would be killed, too. So a
run that cannot fit is rejected before it starts.
"""

import os
import re
from pathlib import Path

from catsdogs.runtime.errors import ConfigError

TENSORFLOW = 256 << 20
"""Bytes without which no training starts: TensorFlow 2.21 holds 224 MB once imported, without a GPU."""
SHARE_FOR_IMAGES = 0.3
"""Share of the memory for decoded images; TensorFlow and the model need the rest."""


def limit() -> int:
    """Return the bytes that this process may use: the container's limit (cgroup v2 or v1), or the machine's memory."""
    smallest = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            smallest = min(smallest, int((Path("/sys/fs/cgroup") / name).read_text()))
        except (OSError, ValueError):
            continue
    return smallest


def used() -> int:
    """Return the bytes of anonymous memory that this process holds; 0 if the system does not tell."""
    try:
        line = re.search(r"^RssAnon:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(line[1]) * 1024 if line else 0


def require(least: int, what: str) -> None:
    """Raise ConfigError if this process may not use `least` bytes, which `what` needs."""
    if limit() < least:
        raise ConfigError(
            f"{what} needs at least {least >> 20} MiB of memory, and only {limit() >> 20} MiB are available:"
            " raise the container's limit (the chart's resources.limits.memory)"
        )
