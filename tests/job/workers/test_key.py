"""The file with the key: what is none is refused in one line that does not show it."""

import os
from pathlib import Path

import pytest

from catsdogs.runtime.errors import ConfigError
from catsdogs.workers import key
from tests.conftest import Catsdogs
from tests.workers import KEY


@pytest.mark.parametrize("content", [KEY, KEY + b"\n", b"\n " + KEY + b"\r\n"])
def test_white_space_around_it_does_not_count(content: bytes, tmp_path: Path) -> None:
    """Editors and `echo` leave some."""
    (tmp_path / "key").write_bytes(content)
    assert key.read(tmp_path / "key") == KEY


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 characters; use at least 32 random ones"),
        (b"secret", "6 characters; use at least 32 random ones"),
        (b"secret" + b" " * 32, "6 characters; use at least 32 random ones"),
        (b"secret" * 1000, "more than 4,096 bytes, so not a key"),
    ],
)
def test_what_is_no_key_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as caught:
        key.read(tmp_path / "key")
    assert "secret" not in str(caught.value)


@pytest.mark.timeout(10)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key")
    with pytest.raises(ConfigError, match="key: not a regular file; name a file with random text"):
        key.read(tmp_path / "key")


@pytest.mark.parametrize(("name", "reason"), [("none", "No such file or directory"), (".", "Is a directory")])
def test_file_that_cannot_be_read(name: str, reason: str, catsdogs_from_scratch: Catsdogs) -> None:
    own = ("--workers=2", "--worker-address=localhost:1,localhost:3", "--worker-index=1", f"--worker-key-file={name}")
    done = catsdogs_from_scratch("prepare", "--archive=a.zip", "--output=runs", *own)
    expected = f"catsdogs: worker 1: --worker-key-file {name}: {reason}; name a file that this user can read\n"
    assert (done.returncode, done.stderr) == (78, expected)


def test_its_value_is_no_option(catsdogs: Catsdogs) -> None:
    """Every user of the machine sees the arguments of a process."""
    assert catsdogs("run", f"--worker-key={KEY.decode()}").returncode == 2
