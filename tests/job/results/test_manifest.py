"""A published run's manifest: what is compared with it, and manifests that are not one."""

import json
from pathlib import Path
from typing import Any

import pytest

from catsdogs.results import manifest, names
from catsdogs.results.manifest import Entry
from catsdogs.runtime.errors import BadData, ConfigError, NotFound
from catsdogs.storage.folder import Folder
from catsdogs.storage.store import Store
from tests.job.results.conftest import published, put

SHA256 = "0123456789abcdef" * 4


@pytest.mark.parametrize("now", [b"[]\n", b"", None], ids=["changed", "cut", "missing"])
def test_an_artifact_that_differs_is_named(
    output: Store, artifacts: dict[str, Path], tmp_path: Path, now: bytes | None
) -> None:
    published(output, artifacts)
    if now is None:
        output.delete("metrics.json")
    else:
        put(output, "metrics.json", now, tmp_path)
    with pytest.raises(BadData, match=f"^{output.uri('metrics.json')}: "):
        manifest.verify(output)


def with_entry(**changes: Any) -> bytes:
    return json.dumps({"format": 1, "artifacts": [{"name": "a", "size": 0, "sha256": SHA256, **changes}]}).encode()


ENTRY = {"name": "a", "size": 0, "sha256": SHA256}
NOT_MANIFESTS = {
    "empty": b"",
    "not UTF-8": b"\xff",
    "a list": b"[]",
    "no artifacts": b"{}",
    "an empty entry": b'{"artifacts": [{}]}',
    "a number as an entry": b'{"artifacts": [1]}',
    "artifacts are null": b'{"artifacts": null}',
    "a name twice": json.dumps({"artifacts": [ENTRY, ENTRY]}).encode(),
    "nested deeply": b'{"artifacts": ' + b"[" * 100_000,
    "NaN": b'{"artifacts": [], "x": NaN}',
    "a long number": b'{"artifacts": [{"name": "a", "sha256": "", "size": ' + b"9" * 5000 + b"}]}",
    "too large": b'{"artifacts": []}' + b" " * manifest.MAX_SIZE,
    "a negative size": with_entry(size=-1),
    "a fraction as size": with_entry(size=1.0),
    "a bool as size": with_entry(size=True),
    "a text as size": with_entry(size="0"),
    "an absolute name": with_entry(name="/etc/passwd"),
    "a name outside": with_entry(name="../secret"),
    "a name outside, further in": with_entry(name="a/../../secret"),
    "an empty name": with_entry(name=""),
    "the folder itself": with_entry(name="."),
    "two spellings": with_entry(name="./a"),
    "a line end in a name": with_entry(name="a\nb"),
    "a NUL in a name": with_entry(name="a\0b"),
    "a number as name": with_entry(name=1),
    "itself": with_entry(name="manifest.json"),
    "a short digest": with_entry(sha256=SHA256[1:]),
    "a number as digest": with_entry(sha256=0),
    "capitals in a digest": with_entry(sha256=SHA256.upper()),
    "a text as format": b'{"format": "1", "artifacts": []}',
}


@pytest.mark.parametrize("content", NOT_MANIFESTS.values(), ids=NOT_MANIFESTS)
def test_what_is_not_a_manifest_is_bad_data(tmp_path: Path, content: bytes) -> None:
    output = Folder(tmp_path)
    output.put_if(names.MANIFEST, content, None)
    with pytest.raises(BadData, match=f"^{output.uri(names.MANIFEST)}: not a manifest; publish the run again"):
        manifest.load(output)


def test_a_newer_format_is_refused_by_name(output: Store) -> None:
    output.put_if(names.MANIFEST, b'{"format": 2, "artifacts": "in another form"}', None)
    with pytest.raises(ConfigError, match=rf"^{output.uri(names.MANIFEST)}: written by a newer version .*format 2"):
        manifest.load(output)


def test_a_manifest_without_a_number_and_with_names_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"artifacts": [ENTRY, {**ENTRY, "name": "new/one.bin"}]}))
    found = manifest.load(Folder(tmp_path))
    assert found.entries == {"a": Entry("a", 0, SHA256), "new/one.bin": Entry("new/one.bin", 0, SHA256)}
    assert found.missing == ["model.keras", "metrics.json", "run.json"]
    assert (found.run_id, found.published) == (None, None)


def test_there_is_nothing_to_verify_without_a_manifest(output: Store, tmp_path: Path) -> None:
    put(output, "model.keras", b"", tmp_path)
    with pytest.raises(NotFound, match=f"^{output.uri(names.MANIFEST)}: "):
        manifest.verify(output)


def test_an_artifact_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    entry = Entry("run.json", manifest.MAX_DOCUMENT + 1, SHA256)
    with pytest.raises(BadData, match="larger than"):
        manifest.contents(Folder(tmp_path), entry)
