"""A bucket or a folder behind one small interface.

Whatever the job reads or publishes goes through a `Store`. Errors come out as `catsdogs.runtime.errors` kinds with
the address in them, and a read that breaks off goes on from where it broke.
"""

import contextlib
import fcntl
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from catsdogs.runtime.errors import Changed, ConfigError, NotFound, PermissionDenied
from catsdogs.storage import volume

CHUNK = 256 * 1024


class Stat(NamedTuple):
    size: int
    etag: str
    """Changes whenever the bytes do."""


def _untold(_reason: str, _left: float) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class StorageOptions:
    """How a bucket is reached, and with how much patience."""

    addressing_style: str = "auto"
    timeout: float = 120.0
    """Seconds for which a storage that fails is waited for before Unavailable is raised."""
    waiting: Callable[[str, float], None] = _untold
    """Is told why, and for how many seconds at most, now and then while that lasts; from any thread."""


DEFAULTS = StorageOptions()


class Store(Protocol):
    """Objects by key. Keys are relative, with forward slashes. Failures that pass are waited for."""

    @property
    def detects_corruption(self) -> bool:
        """Whether no bit that is read can be another than the stored one without an error."""

    def uri(self, key: str) -> str:
        """The object's address, as a user would write it."""

    def within(self, name: str) -> "Store":
        """The store of the objects under `name`/."""

    def stat(self, key: str) -> Stat:
        """Raises NotFound."""

    def stream(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        """The bytes start ≤ i < stop, in chunks. Raises NotFound, Changed if the object is no longer `etag`'s."""

    def put(self, key: str, source: Path) -> None:
        """Makes `key` hold the file's bytes, whole or not at all."""

    def put_if(self, key: str, source: Path | bytes, etag: str | None) -> str | None:
        """Like put, but only if the object still is `etag`'s, or, for None, if there is none.

        Of all callers who know one etag exactly one gets the new one; the others change nothing and get None.
        None may also come to the one whose first attempt succeeded, if its answer was lost.
        """

    def list(self, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        """Every object whose key starts with `prefix`, in no order. Raises NotFound if there is no such bucket."""

    def delete(self, key: str) -> None:
        """Removes the object; one that is not there is fine."""


def open_store(uri: str, storage_options: StorageOptions = DEFAULTS) -> Store:
    """The store at `s3://bucket[/prefix]` or at a local folder, which need not exist yet. Connects to nothing.

    Raises ConfigError when `uri` is neither.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Folder(Path(uri))
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ConfigError(f"{uri}: not an address; give s3://bucket/key or a local path")
    from catsdogs.storage.s3 import Bucket

    return Bucket(bucket, prefix.strip("/"), storage_options)


def read(store: Store, key: str) -> bytes:
    """All of an object. Raises NotFound."""
    stat = store.stat(key)
    return b"".join(store.stream(key, 0, stat.size, stat.etag))


class Folder:
    """A store in the local file system."""

    detects_corruption = True

    def __init__(self, root: Path):
        self.root = root

    def uri(self, key: str) -> str:
        return str(self.root / key)

    def within(self, name: str) -> "Folder":
        return Folder(self.root / name)

    def stat(self, key: str) -> Stat:
        path = self.root / key
        with self._reading(key):
            if path.is_dir():
                raise IsADirectoryError
            return self._stat_of(path.stat())

    @staticmethod
    def _stat_of(status: os.stat_result) -> Stat:
        return Stat(status.st_size, f"{status.st_size:x}-{status.st_mtime_ns:x}")

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound(f"{self.uri(key)}: no such file; check the path") from None
        except PermissionError:
            raise PermissionDenied(f"{self.uri(key)}: permission denied; make it readable for this user") from None

    def stream(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        with (
            volume.failures(self.uri(key)),
            self._reading(key),
            open(self.root / key, "rb", buffering=0) as file,
        ):
            if self._stat_of(os.fstat(file.fileno())).etag != etag:
                raise Changed(self.uri(key))
            file.seek(start)
            while start < stop:
                chunk = file.read(min(CHUNK, stop - start))
                if not chunk:
                    raise Changed(self.uri(key))
                start += len(chunk)
                yield chunk

    def put(self, key: str, source: Path) -> None:
        with (
            volume.failures(self.uri(key)),
            source.open("rb") as file,
            volume.new_file(self.root / key) as copy,
        ):
            while chunk := file.read(CHUNK):
                copy.write(chunk)

    def put_if(self, key: str, source: Path | bytes, etag: str | None) -> str | None:
        path = self.root / key
        candidate = path.with_name(f".{path.name}.{os.getpid()}.{random.getrandbits(32):08x}.part")
        with volume.failures(path):
            volume.write(candidate, source if isinstance(source, bytes) else source.read_bytes())
            new = self._stat_of(candidate.stat()).etag
            try:
                if etag is None:
                    # Unlike a rename, a link fails if its name exists.
                    os.link(candidate, path)
                else:
                    with path.open("rb") as old:
                        # Who waited for the lock finds another file under the name.
                        fcntl.flock(old, fcntl.LOCK_EX)
                        if self._stat_of(path.stat()).etag != etag:
                            return None
                        os.replace(candidate, path)
            except (FileExistsError, FileNotFoundError):
                return None
            finally:
                candidate.unlink(missing_ok=True)
            volume.sync_directory(path.parent)
        return new

    def list(self, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        with volume.failures(self.root):
            for directory, _, names in os.walk(self.root / prefix.rpartition("/")[0]):
                for name in names:
                    path = Path(directory, name)
                    key = path.relative_to(self.root).as_posix()
                    if key.startswith(prefix) and not name.endswith(".part"):
                        yield key, self._stat_of(path.stat())

    def delete(self, key: str) -> None:
        with volume.failures(self.uri(key)):
            (self.root / key).unlink(missing_ok=True)
