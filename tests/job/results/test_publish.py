import contextlib
import functools
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catsdogs.results import publish
from catsdogs.runtime.errors import (
    BadData,
    ConfigError,
    Interrupted,
    JobError,
    NotFound,
    PermissionDenied,
    Unavailable,
    VolumeError,
)
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import lease
from catsdogs.storage.folder import Folder
from catsdogs.storage.s3 import Bucket
from catsdogs.storage.store import CHUNK, DEFAULTS, Store, open_store, read
from tests.recorder import Recorder
from tests.servers import S3Server

SETTINGS = {"recipe": "baseline", "seed": 7, "learning_rate": 1e-4}
ABOUT: dict[str, Any] = {
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
    store.client = shared.client
    return store


@pytest.fixture
def artifacts(tmp_path: Path) -> dict[str, Path]:
    """Of a finished run; the order is not that of the names."""
    contents = {
        "model.keras": secrets.token_bytes(CHUNK + 1),
        "log.jsonl": b"",
        "metrics.json": b"{}\n",
        publish.RUN: publish.as_json(ABOUT),
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
    publish.publish(output, artifacts, "baseline-1a2b3c4d", owner, Log([said]), interruption)
    return said


def running(name: str) -> list[str]:
    """Of the threads so called."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(name)]


def names(output: Store) -> list[str]:
    return sorted(name for name, _ in output.list())


def put(output: Store, name: str, data: bytes, directory: Path) -> None:
    output.put(name, written(directory / "put", data))


def test_a_published_run_has_a_manifest_of_all_its_artifacts(output: Store, artifacts: dict[str, Path]) -> None:
    said = published(output, artifacts)
    manifest = json.loads(read(output, publish.MANIFEST))
    assert (manifest["format"], manifest["run_id"]) == (1, "baseline-1a2b3c4d")
    contents = {name: path.read_bytes() for name, path in sorted(artifacts.items())}
    assert manifest["artifacts"] == [
        {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()
    ]
    assert {name: read(output, name) for name in names(output) if name != publish.MANIFEST} == contents
    assert publish.verify(output) == sorted(artifacts)
    size = sum(map(len, contents.values()))
    assert said.events[-1] == ("published", {"uri": output.uri(""), "artifacts": 4, "size": size})
    assert publish.is_published(output, SETTINGS)


@pytest.mark.parametrize("now", [b"[]\n", b"", None], ids=["changed", "cut", "missing"])
def test_verifying_names_an_artifact_that_is_not_what_it_was(
    output: Store, artifacts: dict[str, Path], tmp_path: Path, now: bytes | None
) -> None:
    published(output, artifacts)
    if now is None:
        output.delete("metrics.json")
    else:
        put(output, "metrics.json", now, tmp_path)
    with pytest.raises(BadData, match=f"^{output.uri('metrics.json')}: "):
        publish.verify(output)


@pytest.mark.parametrize("manifest", [b"", b"\xff", b"[]", b"{}", b'{"artifacts": [{}]}', b'{"artifacts": [1]}'])
def test_verifying_names_a_damaged_manifest(output: Store, manifest: bytes) -> None:
    output.put_if(publish.MANIFEST, manifest, None)
    with pytest.raises(BadData, match=f"^{output.uri(publish.MANIFEST)}: "):
        publish.verify(output)


def test_there_is_nothing_to_verify_without_a_manifest(output: Store, tmp_path: Path) -> None:
    put(output, "model.keras", b"", tmp_path)
    with pytest.raises(NotFound, match=f"^{output.uri(publish.MANIFEST)}: "):
        publish.verify(output)


def test_an_interrupted_publication_leaves_no_manifest(output: Store, artifacts: dict[str, Path]) -> None:
    with pytest.raises(Interrupted, match="SIGTERM"):
        published(output, artifacts, signal_name="SIGTERM")
    while running("upload"):
        time.sleep(0.01)
    assert publish.MANIFEST not in names(output)
    published(output, artifacts)
    assert publish.verify(output) == sorted(artifacts)


def test_an_artifact_that_is_not_there_leaves_no_manifest(
    output: Store, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(VolumeError, match=r"absent\.png"):
        published(output, {**artifacts, "history.png": tmp_path / "absent.png"})
    assert publish.MANIFEST not in names(output)


def test_a_published_run_stands(output: Store, artifacts: dict[str, Path], tmp_path: Path) -> None:
    published(output, artifacts)
    manifest = read(output, publish.MANIFEST)
    said = published(output, {**artifacts, "log.jsonl": written(tmp_path / "another", b"another process's")})
    assert said.events == [("already-published", {"run_id": "baseline-1a2b3c4d", "uri": output.uri("")})]
    assert read(output, publish.MANIFEST) == manifest
    assert publish.verify(output) == sorted(artifacts)


class Overtaken(Folder):
    """Another process's manifest comes just before ours."""

    def put_if(self, key: str, source: Path | bytes, etag: str | None) -> str | None:
        if key == publish.MANIFEST:
            super().put_if(key, b"theirs", None)
        return super().put_if(key, source, etag)


def test_a_run_published_meanwhile_stands(artifacts: dict[str, Path], tmp_path: Path) -> None:
    output = Overtaken(tmp_path / "output")
    with pytest.raises(Interrupted, match="another process is publishing"):
        published(output, artifacts)
    assert read(output, publish.MANIFEST) == b"theirs"


class Corrupting(Folder):
    """Stores the wrong bytes the first so many times, as broken hardware and proxies do."""

    def __init__(self, root: Path, times: int):
        super().__init__(root)
        self.times = times

    def put_if(self, key: str, source: Path | bytes, etag: str | None) -> str | None:
        new = super().put_if(key, source, etag)
        if key == "model.keras" and self.times > 0:
            self.times -= 1
            data = bytearray((self.root / key).read_bytes())
            data[len(data) // 2] ^= 1
            (self.root / key).write_bytes(data)
            return self.stat(key).etag
        return new


def test_bytes_stored_wrong_once_are_stored_again(artifacts: dict[str, Path], tmp_path: Path) -> None:
    output = Corrupting(tmp_path / "output", times=1)
    model = {"model.keras": artifacts["model.keras"]}
    published(output, model)
    assert publish.verify(output) == ["model.keras"]


def test_bytes_stored_wrong_again_and_again_are_not_published(artifacts: dict[str, Path], tmp_path: Path) -> None:
    output = Corrupting(tmp_path / "output", times=1000)
    with pytest.raises(Unavailable, match=f"^{output.uri('model.keras')}: reads back differently"):
        published(output, {"model.keras": artifacts["model.keras"]})
    assert names(output) == [lease.KEY, "model.keras"]


@pytest.mark.parametrize(
    ("there", "answer"),
    [
        ([], False),
        ([publish.RUN, "log.jsonl", "checkpoint/000001-000000.npz"], False),
        ([publish.RUN, "model.keras", publish.MANIFEST], True),
    ],
)
def test_a_run_is_published_once_its_manifest_is_there(
    output: Store, tmp_path: Path, there: list[str], answer: bool
) -> None:
    for name in there:
        put(output, name, publish.as_json(ABOUT), tmp_path)
    assert publish.is_published(output, SETTINGS) is answer


@pytest.mark.parametrize("stranger", ["thesis.docx", "model.keras.bak", "checkpoints/1", "other-run/run.json"])
def test_a_place_with_strangers_is_left_alone(output: Store, tmp_path: Path, stranger: str) -> None:
    put(output, stranger, b"", tmp_path)
    put(output, publish.MANIFEST, b"", tmp_path)
    with pytest.raises(ConfigError, match=f"^{output.uri(stranger)}: .*choose another --run-id or --output"):
        publish.is_published(output, SETTINGS)


def test_a_bucket_that_is_not_there_is_a_contradiction(seaweedfs: S3Server) -> None:
    output = Bucket("absent-bucket", "run", DEFAULTS)
    output.client = bucket_on(seaweedfs).client
    with pytest.raises(ConfigError, match=r"^s3://absent-bucket: no such bucket"):
        publish.is_published(output, SETTINGS)


CHANGES: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({"run_id": "another", "device": "GPU"}, None),
    ({"archive": {**ABOUT["archive"], "uri": "/data/copy.zip", "etag": "1"}}, None),
    ({"archive": {**ABOUT["archive"], "directory_sha256": "6b6b"}}, "directory_sha256 '5a5a' instead of '6b6b'"),
    ({"settings": {**SETTINGS, "seed": 8}}, "seed 7 instead of 8"),
    ({"settings": {**SETTINGS, "new": 1}}, "new None instead of 1"),
]


@pytest.mark.parametrize(("changes", "difference"), CHANGES)
def test_a_run_id_belongs_to_the_first_that_claims_it(
    output: Store, changes: dict[str, Any], difference: str | None
) -> None:
    publish.claim(output, ABOUT)
    if difference is None:
        publish.claim(output, {**ABOUT, **changes})
    else:
        with pytest.raises(ConfigError, match=f"^{output.uri('')}: .*{difference}.*choose another --run-id"):
            publish.claim(output, {**ABOUT, **changes})
    assert json.loads(read(output, publish.RUN)) == ABOUT


@pytest.mark.parametrize("seed", [7, 8])
def test_whether_a_run_is_published_is_asked_about_the_same_settings_only(output: Store, seed: int) -> None:
    publish.claim(output, ABOUT)
    if seed == SETTINGS["seed"]:
        assert not publish.is_published(output, {**SETTINGS, "seed": seed})
    else:
        with pytest.raises(ConfigError, match="seed 7 instead of 8"):
            publish.is_published(output, {**SETTINGS, "seed": seed})


@pytest.mark.parametrize("document", [b"", b"\xff", b"[]", b"{}", b'{"settings": 1}', b'{"settings": "seed"}'])
@pytest.mark.parametrize(
    "ask", [lambda output: publish.is_published(output, SETTINGS), lambda output: publish.claim(output, ABOUT)]
)
def test_a_run_json_that_is_no_runs_is_left_alone(
    tmp_path: Path, document: bytes, ask: Callable[[Store], object]
) -> None:
    output = open_store(str(tmp_path))
    output.put_if(publish.RUN, document, None)
    with pytest.raises(ConfigError, match=f"^{output.uri(publish.RUN)}: not a run's"):
        ask(output)
    assert read(output, publish.RUN) == document


def reads_soon(output: Store, data: bytes) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        # It may be replaced between the look at it and the read.
        with contextlib.suppress(BadData):
            if read(output, publish.LOG) == data:
                return True
        time.sleep(0.01)
    return False


def append(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line)


class Failing(Folder):
    """Fails with `error` while it has one."""

    error: JobError | None = None
    failures = 0

    def put_if(self, key: str, source: Path | bytes, etag: str | None) -> str | None:
        if self.error is not None:
            self.failures += 1
            raise self.error
        return super().put_if(key, source, etag)


class TestLogUpload:
    def test_the_log_is_uploaded_at_once_and_again_until_it_is_closed(self, output: Store, tmp_path: Path) -> None:
        log = written(tmp_path / "log.jsonl", b"1\n")
        upload = publish.LogUpload(output, log, every=0.02)
        assert reads_soon(output, b"1\n")
        append(log, b"2\n")
        assert reads_soon(output, b"1\n2\n")
        upload.close()
        assert running("log") == []

    def test_a_store_that_refuses_is_found_at_once(self, tmp_path: Path) -> None:
        output = Failing(tmp_path / "output")
        output.error = PermissionDenied("no")
        with pytest.raises(PermissionDenied):
            publish.LogUpload(output, written(tmp_path / "log.jsonl", b""))
        assert running("log") == []

    def test_a_failure_in_between_is_made_good(self, tmp_path: Path) -> None:
        output, log = Failing(tmp_path / "output"), written(tmp_path / "log.jsonl", b"1\n")
        upload = publish.LogUpload(output, log, every=0.01)
        output.error = Unavailable("not now")
        append(log, b"2\n")
        while output.failures < 2:
            time.sleep(0.01)
        output.error = None
        assert reads_soon(output, b"1\n2\n")
        upload.close()

    def test_the_log_of_a_published_run_stands(self, output: Store, artifacts: dict[str, Path], tmp_path: Path) -> None:
        published(output, artifacts)
        upload = publish.LogUpload(output, written(tmp_path / "log.jsonl", b"another process's"), every=0.01)
        time.sleep(0.1)
        upload.close()
        assert publish.verify(output) == sorted(artifacts)


class TestSeal:
    @pytest.fixture
    def files(self, tmp_path: Path) -> dict[str, Path]:
        for name in ("model.keras", "metrics.json"):
            (tmp_path / name).write_bytes(name.encode())
        return publish.seal(tmp_path, ("model.keras", "metrics.json"))

    def test_what_was_sealed_is_found_again(self, files: dict[str, Path], tmp_path: Path) -> None:
        assert publish.sealed(tmp_path) == files == {name: tmp_path / name for name in files}

    @pytest.mark.parametrize("name", ["metrics.json", publish.SEAL])
    @pytest.mark.parametrize("data", [b"", b"\xff", None], ids=["cut", "changed", "missing"])
    def test_what_changed_since_is_sealed_no_more(
        self, files: dict[str, Path], tmp_path: Path, name: str, data: bytes | None
    ) -> None:
        (tmp_path / name).unlink() if data is None else (tmp_path / name).write_bytes(data)
        assert publish.sealed(tmp_path) is None

    def test_what_is_not_there_cannot_be_sealed(self, files: dict[str, Path], tmp_path: Path) -> None:
        with pytest.raises(VolumeError, match=r"history\.png"):
            publish.seal(tmp_path, ("history.png",))
