"""Publishing: every artifact compared, the manifest last, one publisher at a time, nothing foreign touched."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catsdogs.results import documents, manifest, names, publish
from catsdogs.runtime.errors import BadData, ConfigError, Interrupted, Unavailable, VolumeError
from catsdogs.storage import lease
from catsdogs.storage.address import open_store
from catsdogs.storage.folder import Folder
from catsdogs.storage.s3 import Bucket
from catsdogs.storage.store import DEFAULTS, Source, Store, read
from tests.job.results.conftest import ABOUT, SETTINGS, bucket_on, keys, published, put, running, written
from tests.servers import S3Server


def test_a_published_run_has_a_manifest_of_all_its_artifacts(output: Store, artifacts: dict[str, Path]) -> None:
    said = published(output, artifacts)
    written_manifest = json.loads(read(output, names.MANIFEST))
    assert (written_manifest["format"], written_manifest["run_id"]) == (1, "baseline-1a2b3c4d")
    contents = {name: path.read_bytes() for name, path in sorted(artifacts.items())}
    assert written_manifest["artifacts"] == [
        {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()
    ]
    assert {name: read(output, name) for name in keys(output) if name != names.MANIFEST} == contents
    assert manifest.verify(output) == sorted(artifacts)
    size = sum(map(len, contents.values()))
    assert said.events[-1] == ("published", {"uri": output.uri(""), "artifacts": 4, "size": size})
    assert publish.is_published(output, SETTINGS)


def test_an_interrupted_publication_leaves_no_manifest(output: Store, artifacts: dict[str, Path]) -> None:
    with pytest.raises(Interrupted, match="SIGTERM"):
        published(output, artifacts, signal_name="SIGTERM")
    while running("upload"):
        time.sleep(0.01)
    assert names.MANIFEST not in keys(output)
    published(output, artifacts)
    assert manifest.verify(output) == sorted(artifacts)


def test_an_artifact_that_is_not_there_leaves_no_manifest(
    output: Store, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(VolumeError, match=r"absent\.png"):
        published(output, {**artifacts, "history.png": tmp_path / "absent.png"})
    assert names.MANIFEST not in keys(output)


def test_a_published_run_stands(output: Store, artifacts: dict[str, Path], tmp_path: Path) -> None:
    published(output, artifacts)
    before = read(output, names.MANIFEST)
    said = published(output, {**artifacts, "log.jsonl": written(tmp_path / "another", b"another process's")})
    assert said.events == [("already-published", {"run_id": "baseline-1a2b3c4d", "uri": output.uri("")})]
    assert read(output, names.MANIFEST) == before
    assert manifest.verify(output) == sorted(artifacts)


class Overtaken(Folder):
    """Another process's manifest comes just before ours."""

    def put_if(self, key: str, source: Source, etag: str | None) -> str | None:
        if key == names.MANIFEST:
            super().put_if(key, b"theirs", None)
        return super().put_if(key, source, etag)


def test_a_run_published_meanwhile_stands(artifacts: dict[str, Path], tmp_path: Path) -> None:
    output = Overtaken(tmp_path / "output")
    with pytest.raises(Interrupted, match="another process is publishing"):
        published(output, artifacts)
    assert read(output, names.MANIFEST) == b"theirs"


class Replaced(Folder):
    """Another publisher, which took this one for dead, replaces an artifact while it is read back."""

    def stream(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        if key == "model.keras":
            super().put(key, b"theirs")
        return super().stream(key, start, stop, etag)


def test_an_artifact_that_another_publisher_replaces_is_left_to_it(artifacts: dict[str, Path], tmp_path: Path) -> None:
    output = Replaced(tmp_path / "output")
    with pytest.raises(Interrupted, match="another process is publishing"):
        published(output, artifacts)
    assert names.MANIFEST not in keys(output)


class Corrupting(Folder):
    """Stores the wrong bytes the first so many times, as broken hardware and proxies do."""

    def __init__(self, root: Path, times: int):
        super().__init__(root)
        self.times = times

    def put_if(self, key: str, source: Source, etag: str | None) -> str | None:
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
    assert manifest.verify(output) == ["model.keras"]


def test_bytes_stored_wrong_again_and_again_are_not_published(artifacts: dict[str, Path], tmp_path: Path) -> None:
    output = Corrupting(tmp_path / "output", times=1000)
    with pytest.raises(Unavailable, match=f"^{output.uri('model.keras')}: reads back differently"):
        published(output, {"model.keras": artifacts["model.keras"]})
    assert keys(output) == [lease.KEY, "model.keras"]


@pytest.mark.parametrize(
    ("there", "answer"),
    [
        ([], False),
        ([names.RUN, "log.jsonl", "checkpoint/000001-000000.npz"], False),
        ([names.RUN, "model.keras", "metrics.json", names.MANIFEST], True),
    ],
)
def test_a_run_is_published_once_its_manifest_is_there(
    output: Store, tmp_path: Path, there: list[str], answer: bool
) -> None:
    listed = [{"name": name, "size": 0, "sha256": "0" * 64} for name in there if name != names.MANIFEST]
    contents = {names.RUN: documents.dump_run(ABOUT), names.MANIFEST: json.dumps({"artifacts": listed}).encode()}
    for name in there:
        put(output, name, contents.get(name, b""), tmp_path)
    assert publish.is_published(output, SETTINGS) is answer


@pytest.mark.parametrize("content", [b"", b"[]", b'{"artifacts": []}', b'{"format": 1}', b"\xff\xfe"])
def test_a_run_is_not_published_by_a_manifest_that_is_none(output: Store, tmp_path: Path, content: bytes) -> None:
    put(output, names.MANIFEST, content, tmp_path)
    with pytest.raises(BadData, match=r"(manifest\.json: not a manifest|not in the manifest); publish the run again"):
        publish.is_published(output, SETTINGS)


@pytest.mark.parametrize("stranger", ["thesis.docx", "model.keras.bak", "checkpoints/1", "other-run/run.json"])
def test_a_place_with_strangers_is_left_alone(output: Store, tmp_path: Path, stranger: str) -> None:
    put(output, stranger, b"", tmp_path)
    put(output, names.MANIFEST, b"", tmp_path)
    with pytest.raises(ConfigError, match=f"^{output.uri(stranger)}: .*choose another --run-id or --output"):
        publish.is_published(output, SETTINGS)


def test_a_bucket_that_is_not_there_is_a_contradiction(seaweedfs: S3Server) -> None:
    output = Bucket("absent-bucket", "run", DEFAULTS)
    output.shared_client = bucket_on(seaweedfs).shared_client
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
        publish.claim(output, ABOUT | changes)
    else:
        with pytest.raises(ConfigError, match=f"^{output.uri('')}: .*{difference}.*choose another --run-id"):
            publish.claim(output, ABOUT | changes)
    assert json.loads(read(output, names.RUN)) == {"format": 1, **ABOUT}


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
    output.put_if(names.RUN, document, None)
    with pytest.raises(ConfigError, match=f"^{output.uri(names.RUN)}: not a run's"):
        ask(output)
    assert read(output, names.RUN) == document
