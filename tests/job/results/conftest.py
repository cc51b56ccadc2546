"""A run to publish, and where: a folder, and a bucket on a real S3 server."""

import functools
import os
import secrets
import threading
from pathlib import Path
from typing import Any

import pytest

from catsdogs.results import documents, names, publish
from catsdogs.results.completion import Artifact
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage.folder import Folder
from catsdogs.storage.s3 import Bucket
from catsdogs.storage.store import CHUNK, DEFAULTS, Store
from tests.recorder import Recorder
from tests.servers import S3Server

SETTINGS = {"recipe": "baseline", "seed": 7, "learning_rate": 1e-4}
ABOUT: Any = {
    "run_id": "baseline-1a2b3c4d",
    "settings": SETTINGS,
    "archive": {"uri": "s3://pets/dogs-vs-cats.zip", "size": 852, "directory_sha256": "5a5a"},
}


@functools.cache
def bucket_on(server: S3Server) -> Bucket:
    """One for all tests, as a new client, and the first put into a new bucket, take tenths of a second."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        bucket = Bucket("test-publish", "", DEFAULTS)
        bucket.client.create_bucket(Bucket=bucket.bucket)
    return bucket


@pytest.fixture(params=["folder", "seaweedfs"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Where one run is published: nothing there yet."""
    if request.param == "folder":
        return Folder(tmp_path / "output")
    shared = bucket_on(request.getfixturevalue("seaweedfs"))
    store = Bucket(shared.bucket, f"runs/{secrets.token_hex(6)}", DEFAULTS)
    store.shared_client = shared.shared_client
    return store


@pytest.fixture
def artifacts(tmp_path: Path) -> dict[str, Path]:
    """Of a finished run; the order is not that of the names."""
    contents = {
        "model.keras": secrets.token_bytes(CHUNK + 1),
        "log.jsonl": b"",
        "metrics.json": b"{}\n",
        names.RUN: documents.dump_run(ABOUT),
    }
    (tmp_path / "artifacts").mkdir()
    return {name: written(tmp_path / "artifacts" / name, data) for name, data in contents.items()}


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def published(
    output: Store, artifacts: dict[str, Path], signal_name: str | None = None, owner: str = "this process"
) -> Recorder:
    """What was said."""
    said, interruption = Recorder(), Interruption()
    interruption.signal_name = signal_name
    files = {name: Artifact.of(path) for name, path in artifacts.items()}
    publish.publish(output, files, "baseline-1a2b3c4d", owner, Log([said]), interruption)
    return said


def running(name: str) -> list[str]:
    """Of the threads so called."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(name)]


def keys(output: Store) -> list[str]:
    return sorted(name for name, _ in output.list())


def put(output: Store, name: str, data: bytes, directory: Path) -> None:
    output.put(name, written(directory / "put", data))
