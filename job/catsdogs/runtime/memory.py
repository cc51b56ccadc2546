"""How much memory the process may use, and the refusal of too little of it.

The kernel kills whoever asks for more than the container's limit, without a word. Tried again, the same run would
be killed again; so what is certain not to fit is refused before it is begun.
"""

import os
import re
from pathlib import Path

from catsdogs.runtime.errors import ConfigError

TENSORFLOW = 256 << 20
"""Bytes below which no training begins: TensorFlow 2.21 was seen to hold 224 MB once imported, without a GPU."""
SHARE_FOR_IMAGES = 0.3
"""How much of it decoded images may fill; TensorFlow and the model need the rest."""


def limit() -> int:
    """Bytes of memory that this process may use: the container's limit (cgroup v2 or v1), or the machine's memory."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            found = min(found, int((Path("/sys/fs/cgroup") / name).read_text()))
        except (OSError, ValueError):
            continue
    return found


def used() -> int:
    """Bytes that this process holds and that the kernel cannot read anew from a file; 0 where it does not tell."""
    try:
        found = re.search(r"^RssAnon:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def require(least: int, what: str) -> None:
    """Raises ConfigError if `what` needs `least` bytes and this process may not use that many."""
    if limit() < least:
        raise ConfigError(
            f"{what} needs at least {least >> 20} MiB of memory, and {limit() >> 20} MiB are what it may use:"
            " raise the container's limit (the chart's resources.limits.memory)"
        )
