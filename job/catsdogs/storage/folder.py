"""A store in a local folder."""

import contextlib
import fcntl
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from catsdogs.runtime.errors import Changed, JobError, NotFound, PermissionDenied
from catsdogs.storage import volume
from catsdogs.storage.store import CHUNK, Source, Stat
from catsdogs.storage.volume import VolumePath


class Folder:
    """The files under `root`, in which no symbolic link is followed. An etag is a file's size and modification time."""

    # A disk checks each sector that it reads.
    detects_corruption = True

    def __init__(self, root: Path | VolumePath):
        self._folder = root if isinstance(root, VolumePath) else volume.root(root)
        self.root = Path(str(root))
        """For messages."""

    def uri(self, key: str) -> str:
        return str(self.root / key)

    def within(self, name: str) -> "Folder":
        return Folder(self._folder / name)

    def stat(self, key: str) -> Stat:
        with volume.failures(self.uri(key)), self._reading(key):
            return self._stat_of(volume.status(self._folder / key))

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
        except OSError as error:
            if error.errno not in volume.NO_FILE:
                raise
            raise NotFound(f"{error.filename or self.uri(key)}: {error.strerror}; give a regular file") from None

    def stream(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        with (
            volume.failures(self.uri(key)),
            self._reading(key),
            volume.open_file(self._folder / key) as file,
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

    def put(self, key: str, source: Source) -> None:
        with volume.failures(self.uri(key)), volume.new_file(self._folder / key) as copy:
            for chunk in _chunks(source):
                copy.write(chunk)

    def put_if(self, key: str, source: Source, etag: str | None) -> str | None:
        path = self._folder / key
        candidate = path.parent / f".{path.name}.{os.getpid()}.{random.getrandbits(32):08x}.part"
        with volume.failures(path):
            with volume.new_file(candidate) as copy:
                for chunk in _chunks(source):
                    copy.write(chunk)
            try:
                new = self._stat_of(volume.status(candidate)).etag
                if etag is None:
                    # A link fails if the name exists; a rename would replace the file.
                    volume.link(candidate, path)
                else:
                    with volume.open_file(path) as old:
                        # Another writer may have replaced the file while this one waited for the lock.
                        fcntl.flock(old, fcntl.LOCK_EX)
                        if self._stat_of(volume.status(path)).etag != etag:
                            return None
                        volume.replace(candidate, path)
            except (FileExistsError, FileNotFoundError):
                return None
            finally:
                volume.remove(candidate)
            volume.sync_directory(path.parent)
        return new

    def list(
        self, prefix: str = "", on_unreadable: Callable[[str, JobError], None] | None = None
    ) -> Iterator[tuple[str, Stat]]:
        within = prefix.rpartition("/")[0]

        def key_of(name: str) -> str:
            return f"{within}/{name}" if within else name

        def unreadable(name: str, error: OSError) -> None:
            if key_of(name).startswith(prefix):
                with self._listing(key_of(name), on_unreadable):
                    raise error

        with volume.failures(self.root):
            for key in map(key_of, volume.walk(self._folder / within, unreadable)):
                if key.startswith(prefix) and not key.endswith(".part"):
                    stat = None
                    with self._listing(key, on_unreadable):
                        stat = self._stat_of(volume.status(self._folder / key))
                    if stat is not None:
                        yield key, stat

    @contextlib.contextmanager
    def _listing(self, key: str, on_unreadable: Callable[[str, JobError], None] | None) -> Iterator[None]:
        """Give an OSError for what is unreadable to `on_unreadable`, or raise it as a JobError if there is none."""
        try:
            with volume.failures(self.uri(key)), self._reading(key):
                yield
        except NotFound:
            # What is no file, or gone by now, is no object.
            pass
        except JobError as error:
            if on_unreadable is None:
                raise
            on_unreadable(key, error)

    def delete(self, key: str) -> None:
        with volume.failures(self.uri(key)):
            volume.remove(self._folder / key)


def _chunks(source: Source) -> Iterator[bytes]:
    """Yield the bytes to store, from their start."""
    if isinstance(source, bytes):
        yield source
    elif isinstance(source, Path):
        with source.open("rb") as file:
            yield from _chunks(file)
    else:
        source.seek(0)
        while chunk := source.read(CHUNK):
            yield chunk
