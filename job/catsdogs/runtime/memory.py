"""The memory that the process may use, and the check that it suffices.

The kernel kills a process that exceeds the container's limit, without a message, and a retry would be killed, too. So a
run that cannot fit is rejected before it starts.
"""

import errno
import os
import re
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

from catsdogs.runtime.errors import ConfigError, causes_of

TENSORFLOW = 256 << 20
"""Bytes without which no training starts: TensorFlow 2.21 holds 224 MB once imported, without a GPU."""
COMMAND_FLOORS = {resource.RLIMIT_AS: 192 << 20, resource.RLIMIT_DATA: 96 << 20}
TENSORFLOW_FLOORS = {resource.RLIMIT_AS: 2 << 30, resource.RLIMIT_DATA: 448 << 20}
"""Resource limit → bytes without which a command, or TensorFlow, ends in the middle of its imports.

TensorFlow 2.21 maps 2.1 GB, of which 0.5 GB are data, for a first operation on two cores.
"""
_RESOURCES = {resource.RLIMIT_AS: ("address space", "-v"), resource.RLIMIT_DATA: ("data", "-d")}
ADVICE = "raise the container's limit (the chart's resources.limits.memory), or ulimit -v and -d"
"""What to do about too little memory."""
MAX_REASON = 200
"""Characters of an exception's text that are shown."""
_PHRASES = ("failed to map segment", "Cannot allocate memory", "cannot allocate memory", "can't start new thread")
"""What the dynamic linker, the C library and Python say for lack of memory."""
SHARE_FOR_IMAGES = 0.3
"""Share of the memory for decoded images; TensorFlow and the model need the rest."""


def limit() -> int:
    """Return the bytes that this process may use: the smallest of the limits of its cgroup and of all above it (v2 or
    v1), its resource limits (RLIMIT_DATA, RLIMIT_AS), and the machine's memory."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_cgroup_limits(), *_resource_limits()])


def _cgroup_limits() -> Iterator[int]:
    """Yield the limits of this process's cgroups and of all above them, as far as they are mounted here."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        lines = []
    # Without /proc, and where a container sees its own cgroup as the root.
    places = {(root, "memory.max", "/"), (root / "memory", "memory.limit_in_bytes", "/")}
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            places |= {(root, "memory.max", path), (root / "unified", "memory.max", path)}
        elif "memory" in controllers.split(","):
            places.add((root / "memory", "memory.limit_in_bytes", path))
    for mounted, name, path in places:
        # A path that begins with .. leads out of what a cgroup namespace shows.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            try:
                yield int(mounted.joinpath(*parts[:depth], name).read_text())
            except (OSError, ValueError):
                continue


def _resource_limits() -> Iterator[int]:
    for which in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        soft, _ = resource.getrlimit(which)
        if soft != resource.RLIM_INFINITY:
            yield soft


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
            f"{what} needs at least {least >> 20} MiB of memory, and only {limit() >> 20} MiB are available: {ADVICE}"
        )


def require_for(floors: Mapping[int, int], what: str) -> None:
    """Raise ConfigError if a resource limit (RLIMIT_AS, RLIMIT_DATA) is below its floor, in bytes, for `what`.

    Below it, libraries end the process themselves, without an exception.
    """
    for which, least in floors.items():
        soft, _ = resource.getrlimit(which)
        if soft != resource.RLIM_INFINITY and soft < least:
            name, option = _RESOURCES[which]
            raise ConfigError(
                f"{what} needs at least {least >> 20} MiB of {name}, and its limit is {soft >> 20} MiB:"
                f" raise it (ulimit {option})"
            )


def require_for_training() -> None:
    """Raise ConfigError if TensorFlow cannot start with the memory that this process may use."""
    require_for(TENSORFLOW_FLOORS, "a training")
    require(TENSORFLOW, "a training")


def shortage(error: BaseException) -> ConfigError | None:
    """Return the error for an exception that memory, or a limit on it, has caused; None for any other.

    Python has no single exception for that: a library that cannot be mapped is an ImportError, a thread that cannot
    be started a RuntimeError.
    """
    for cause in causes_of(error):
        reason = " ".join(str(cause).split())
        if isinstance(cause, MemoryError):
            return ConfigError(f"not enough memory{f' ({reason[:MAX_REASON]})' if reason else ''}: {ADVICE}")
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            return ConfigError(f"not enough memory ({cause.strerror}): {ADVICE}")
        phrase = next((phrase for phrase in _PHRASES if phrase in reason), None)
        if isinstance(cause, (ImportError, OSError, RuntimeError)) and phrase is not None:
            return ConfigError(f"not enough memory ({phrase}): {ADVICE}")
    return None
