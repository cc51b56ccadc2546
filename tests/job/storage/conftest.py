import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 256 KiB."""
    directory = tmp_path / "volume"
    directory.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True).returncode != 0:
        pytest.skip("mounting a file system takes root")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)
