"""A store in a local folder."""

import contextlib
import fcntl
import os
import random
from collections.abc import Iterator
from pathlib import Path

from catsdogs.runtime.errors import Changed, NotFound, PermissionDenied
from catsdogs.storage import volume
from catsdogs.storage.store import CHUNK, Stat


class Folder:
    """The files under `root`. An etag is made of a file's size and modification time."""

    # A disk checks each sector that it reads.
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
        """Turn an OSError for a missing or unreadable file into NotFound or PermissionDenied."""
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
                    # A link fails if the name exists; a rename would replace the file.
                    os.link(candidate, path)
                else:
                    with path.open("rb") as old:
                        # Another writer may have replaced the file while this one waited for the lock.
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
