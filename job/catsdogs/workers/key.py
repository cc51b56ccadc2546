"""The run's key, which all of its workers have: who has it may join."""

import os
import stat
from pathlib import Path

from catsdogs.runtime.errors import ConfigError

NO_KEY = b""
"""The key of workers on one machine that were given none. Everybody has it."""
MIN_SIZE = 32
MAX_SIZE = 4096


def read(path: Path) -> bytes:
    """Return the key in a file, without white space around it. Raises ConfigError, which does not show the content."""
    option = f"--worker-key-file {path}"
    try:
        with open(path, "rb", opener=_open) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{option}: not a regular file; name a file with random text of 64 characters")
            content = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise ConfigError(f"{option}: {error.strerror or error}; name a file that this user can read") from None
    key = content.strip()
    if len(content) > MAX_SIZE:
        raise ConfigError(f"{option}: more than {MAX_SIZE:,} bytes, so not a key; use random text of 64 characters")
    if len(key) < MIN_SIZE:
        raise ConfigError(
            f"{option}: {len(key)} characters; use at least {MIN_SIZE} random ones, as `openssl rand -hex 32` makes"
        )
    return key


def _open(path: str, flags: int) -> int:
    """Open without waiting for somebody to write to it, if it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
