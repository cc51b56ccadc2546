"""A published run's manifest: each artifact's name, size and SHA-256.

It is the last file of a run to be published. Readers trust it, not this version's list of artifacts: other versions
publish others.
"""

import hashlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, NamedTuple, NotRequired, TypedDict

from catsdogs.results.names import MANIFEST, REQUIRED
from catsdogs.runtime.errors import BadData, NotFound
from catsdogs.storage import document
from catsdogs.storage.schema import Check, Count, Sha256, at_most
from catsdogs.storage.store import Store

FORMAT = 1
MAX_SIZE = 4 << 20
"""Bytes of a manifest. One entry takes about 150."""
MAX_ARTIFACTS = 1000
"""A run has about a dozen, and each costs a request."""
MAX_NAME = 1024
"""Bytes of a name: S3's keys have no more."""
MAX_PART = 255
"""Bytes of a name between two slashes: a folder's files have no more."""
MAX_DOCUMENT = 64 << 20
"""Bytes of an artifact that is read into memory to be parsed. split.json of 25,000 images has 5 MB."""
_ADVICE = "publish the run again under another --run-id"


class Entry(NamedTuple):
    """One artifact, as the manifest describes it."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read from the store, every field of it checked."""

    run_id: str | None
    published: str | None
    """ISO 8601, UTC."""
    entries: dict[str, Entry]
    """By name."""

    @property
    def missing(self) -> list[str]:
        """The artifacts that every run has, and this manifest does not list."""
        return [name for name in REQUIRED if name not in self.entries]

    def check_required(self, store: Store) -> None:
        """Raises BadData if an artifact that every run has is missing in the manifest, which came from `store`."""
        for name in self.missing:
            raise BadData(f"{store.uri(name)}: not in the manifest; {_ADVICE}")


def load(store: Store) -> Manifest:
    """Return the manifest of the run in `store`.

    Raises NotFound if there is none, BadData if it is not one, ConfigError if a newer version wrote it.
    """
    where = store.uri(MANIFEST)
    try:
        return _parse(document.read_object(store, MANIFEST, MAX_SIZE), where)
    except NotFound as error:
        raise NotFound(f"{error}; without a manifest a run is not published") from None
    except ValueError as reason:
        raise BadData(f"{where}: not a manifest; {_ADVICE} ({reason})") from None


def is_within(name: object) -> bool:
    """Return whether `name` is the relative name of a file within a folder, in its shortest form, and printable."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= MAX_NAME
        and name.isprintable()
        and len(name.encode()) <= MAX_NAME
        and not name.startswith("/")
        and all(part != ".." and len(part.encode()) <= MAX_PART for part in name.split("/"))
        and str(PurePosixPath(name)) == name != "."
    )


class _Artifact(TypedDict):
    name: Annotated[str, Check(lambda name: is_within(name) and name != MANIFEST, "no name of an artifact")]
    size: Count
    sha256: Sha256


class _Document(TypedDict):
    artifacts: Annotated[list[_Artifact], Check(lambda artifacts: len(artifacts) <= MAX_ARTIFACTS, "too many")]
    run_id: NotRequired[Annotated[str, at_most(MAX_NAME)] | None]
    published: NotRequired[Annotated[str, at_most(MAX_PART)] | None]


def _parse(data: bytes, where: str) -> Manifest:
    """Raises ValueError for what is not a manifest, ConfigError for a newer one."""
    found = document.load_as(_Document, data, FORMAT, where)
    entries = {item["name"]: Entry(item["name"], item["size"], item["sha256"]) for item in found["artifacts"]}
    if len(entries) != len(found["artifacts"]):
        raise ValueError("artifacts: a name is there twice")
    return Manifest(found.get("run_id"), found.get("published"), entries)


def check(store: Store, entry: Entry) -> None:
    """Compare the whole artifact with its entry. Raises NotFound, or BadData if it differs."""
    if store.stat(entry.name).size != entry.size or digest(store, entry.name) != entry.sha256:
        raise _differs(store, entry)


def contents(store: Store, entry: Entry, max_bytes: int = MAX_DOCUMENT) -> bytes:
    """Return the artifact's bytes. Raises NotFound, or BadData if they differ from the entry or exceed `max_bytes`."""
    if entry.size > max_bytes:
        raise BadData(f"{store.uri(entry.name)}: larger than {max_bytes:,} bytes, which no run's is")
    if store.stat(entry.name).size != entry.size:
        raise _differs(store, entry)
    try:
        data = document.read_object(store, entry.name, entry.size)
    except ValueError:
        raise _differs(store, entry) from None
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise _differs(store, entry)
    return data


def verify(store: Store) -> list[str]:
    """Return the names of a published run's artifacts, each compared with the manifest.

    Raises what `load` raises, and what `check` raises for the first artifact that is missing or different.
    """
    entries = load(store).entries
    for entry in entries.values():
        check(store, entry)
    return list(entries)


def digest(store: Store, key: str) -> str:
    """Return the hex SHA-256 of an object. Raises NotFound."""
    stat = store.stat(key)
    sha256 = hashlib.sha256()
    for chunk in store.stream(key, 0, stat.size, stat.etag):
        sha256.update(chunk)
    return sha256.hexdigest()


def _differs(store: Store, entry: Entry) -> BadData:
    return BadData(f"{store.uri(entry.name)}: not what the manifest says; {_ADVICE}")
