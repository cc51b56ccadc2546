"""What the tests share: S3 servers, a drawn archive, and the real command in a process of its own."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from catsdogs.data import sample
from tests import servers, warm
from tests.servers import S3Server

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLE_PER_CLASS = 24


class Catsdogs(Protocol):
    """The `catsdogs` command, with an environment of nothing but PATH, HOME, PYTHONPATH and `env`."""

    def __call__(
        self, *args: str | Path, env: dict[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Returns whatever the exit code. Raises subprocess.TimeoutExpired after `timeout` seconds."""


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server that checks credentials and checksums."""
    with servers.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[S3Server]:
    """An S3 server that accepts any credentials and checksums."""
    with servers.moto_server() as server:
        yield server


@pytest.fixture
def bucket(seaweedfs: S3Server) -> str:
    """The name of a new, empty bucket on SeaweedFS."""
    name = f"test-{secrets.token_hex(6)}"
    seaweedfs.client().create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def sample_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn `dogs-vs-cats.zip` with SAMPLE_PER_CLASS images a class. Copy it before changing it."""
    path = tmp_path_factory.mktemp("archive") / "dogs-vs-cats.zip"
    sample.write_archive(path, SAMPLE_PER_CLASS)
    return path


def environment_in(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(REPOSITORY / "job")}


@pytest.fixture
def catsdogs(tmp_path: Path) -> Catsdogs:
    """Runs the command as a user would, in `tmp_path`, without the seconds in which libraries are imported."""

    def run(
        *args: str | Path, env: dict[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return warm.catsdogs(*args, env=environment_in(tmp_path) | (env or {}), directory=tmp_path, timeout=timeout)

    return run


@pytest.fixture
def catsdogs_from_scratch(tmp_path: Path) -> Catsdogs:
    """The same, in a process that is started: with a PYTHONPATH of `env`, for one."""

    def run(
        *args: str | Path, env: dict[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "catsdogs", *map(str, args)],
            env=environment_in(tmp_path) | (env or {}),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
