"""The store interface: objects by key, in a bucket or in a folder.

Everything the job reads or publishes goes through a `Store`. Failures are the kinds of `catsdogs.runtime.errors`, with
the object's address, and an interrupted read resumes where it stopped. To add a store, write its module and add a case
to `open_store`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from catsdogs.runtime.errors import JobError

CHUNK = 256 * 1024
"""Bytes of a piece of a stream, at most."""
Source = Path | bytes | IO[bytes]
"""What is stored: the user's own file, bytes, or an open file from its start."""


class Stat(NamedTuple):
    size: int
    """Bytes."""
    etag: str
    """Changes whenever the bytes change."""


def _ignore(*_: object) -> None:
    """The default of what StorageOptions call."""


@dataclass(frozen=True)
class StorageOptions:
    """How to reach a bucket, and how long to retry."""

    addressing_style: str = "auto"
    timeout: float = 120.0
    """Seconds without success after which a failing storage raises Unavailable."""
    on_retry: Callable[[str, float], None] = _ignore
    """Called now and then during retries, from any thread, with the reason and the seconds left."""
    on_renewal: Callable[[str], None] = _ignore
    """Called once storage, which has refused the credentials, takes others that were found when they were read again.
    From any thread, with the store's address."""


DEFAULTS = StorageOptions()


class Store(Protocol):
    """Objects by key; keys are relative, with forward slashes. Retries while storage is unavailable."""

    @property
    def detects_corruption(self) -> bool:
        """Whether a read fails, rather than return other bits than the stored ones."""

    def uri(self, key: str) -> str:
        """Return the object's address, as a user would write it."""

    def within(self, name: str) -> "Store":
        """Return the store of the objects under `name`/."""

    def stat(self, key: str) -> Stat:
        """Raises NotFound."""

    def stream(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        """Yield the bytes start ≤ i < stop. Raises NotFound, and Changed if the object's etag is another."""

    def put(self, key: str, source: Source) -> None:
        """Store the bytes under `key`, all or nothing."""

    def put_if(self, key: str, source: Source, etag: str | None) -> str | None:
        """Store the bytes under `key` if the object has this etag or, for None, if there is no object.

        Of all callers that pass one etag, exactly one gets the new etag; the others change nothing and get None.
        A caller may also get None if its first attempt succeeded but the response was lost.
        """

    def list(
        self, prefix: str = "", on_unreadable: Callable[[str, JobError], None] | None = None
    ) -> Iterator[tuple[str, Stat]]:
        """Yield every object whose key starts with `prefix`, in any order. Raises NotFound if there is no bucket.

        If the store is a folder, one within it, or a file, may be unreadable: then `on_unreadable` is called with its
        key and the error, which is raised if there is no such function.
        """

    def delete(self, key: str) -> None:
        """Delete the object, if there is one."""


def read(store: Store, key: str) -> bytes:
    """Return the whole object. Raises NotFound."""
    stat = store.stat(key)
    return b"".join(store.stream(key, 0, stat.size, stat.etag))
