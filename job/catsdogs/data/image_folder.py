"""A local folder of images as if it were a zip that stores them one after the other: people unzip first.

Only reads. Symbolic links below the folder are not followed: they are named. A file's size and CRC-32 are those of when
the folder was opened; a file that has changed since ends the reading.
"""

import bisect
import contextlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from catsdogs.data.budget import MAX_FILE
from catsdogs.data.compression import STORED
from catsdogs.data.directory import Entry
from catsdogs.data.zip_reader import LOCAL_HEADER
from catsdogs.runtime.errors import BadData, NotFound, PermissionDenied
from catsdogs.storage import volume
from catsdogs.storage.folder import Folder

MAX_NAMES = 1_000_000
"""In the folder and below. Each takes a hundred bytes or so."""

_HEADER = LOCAL_HEADER.pack(b"PK\3\4", 0, 0)


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise PermissionDenied(f"{error.filename or path}: permission denied; make it readable for this user") from None


class _File(NamedTuple):
    name: str
    etag: str
    start: int
    """Of its header, in the zip that there would be."""
    size: int


class ImageFolder:
    """The images of a folder, one after the other, each behind a zip's local header."""

    detects_corruption = True

    def __init__(self, path: str, is_wanted: Callable[[str], bool]):
        """Read the wanted files of the folder at `path`, to know their CRC-32.

        Raises BadData if there are too many names, PermissionDenied, and VolumeError.
        """
        self._folder = Folder(Path(path))
        self._files: list[_File] = []
        self.entries: list[Entry] = []
        self.unread: dict[str, str] = {}
        """The wanted names that are symbolic links, or no files at all, with the reason."""
        self.others: list[str] = []
        """The names of the other files."""
        self.size = 0
        root = volume.root(Path(path))
        with volume.failures(path), _readable(path):
            for count, name in enumerate(volume.walk(root)):
                if count == MAX_NAMES:
                    raise BadData(f"{path}: more than {MAX_NAMES:,} files; give a folder of the images alone")
                if is_wanted(name):
                    self._add(name)
                else:
                    self.others.append(name)
        # In the order of the names, whatever the file system's is: the archive's identity depends on it.
        self.entries.sort()
        self.unread = dict(sorted(self.unread.items()))
        self.others.sort()

    def _add(self, name: str) -> None:
        try:
            stat = self._folder.stat(name)
        except NotFound:
            is_link = (Path(self._folder.uri(name))).is_symlink()
            self.unread[name] = "is a symbolic link, which is not followed" if is_link else "is not a regular file"
            return
        crc = 0
        if stat.size <= MAX_FILE:
            for chunk in self._folder.stream(name, 0, stat.size, stat.etag):
                crc = zlib.crc32(chunk, crc)
        self._files.append(_File(name, stat.etag, self.size, stat.size))
        self.entries.append(Entry(name, 0, STORED, crc, stat.size, stat.size, self.size))
        self.size += len(_HEADER) + stat.size

    def uri(self, key: str) -> str:
        return key

    def stream(self, _key: str, start: int, stop: int, _etag: str) -> Iterator[bytes]:
        """Yield the bytes start ≤ i < stop of the zip that there would be. Raises NotFound and Changed."""
        index = max(0, bisect.bisect_right(self._files, start, key=lambda file: file.start) - 1)
        while start < stop and index < len(self._files):
            file = self._files[index]
            end = file.start + len(_HEADER) + file.size
            data_start = file.start + len(_HEADER)
            if start < data_start:
                piece = _HEADER[start - file.start : stop - file.start]
                yield piece
                start += len(piece)
            if data_start <= start < min(stop, end):
                yield from self._folder.stream(file.name, start - data_start, min(stop, end) - data_start, file.etag)
                start = min(stop, end)
            index += 1
