"""A pseudo-terminal, on which a test sees what a user sees."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import REPOSITORY

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7])(?:;[0-9;]*)?m")


class OnTerminal:
    """A process whose standard output and error are a terminal of `width` columns."""

    def __init__(self, *command: str, width: int, env: Mapping[str, str], directory: Path):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            cwd=directory,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "job"), "TERM": "xterm-256color", **env},
        )
        os.close(theirs)
        self.output = ""

    def read(self, until: str | None = None, timeout: float = 60) -> str:
        """Return all output so far: up to the text, or to the end of the process."""
        deadline = time.monotonic() + timeout
        while until is None or until not in self.output:
            assert time.monotonic() < deadline, self.output
            if not select.select([self._ours], [], [], 1)[0]:
                continue
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # Linux' way to say that nobody has the terminal open any more
                break
            self.output += data.decode()
        return self.output
