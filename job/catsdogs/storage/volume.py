"""Writing on the volume so that a name, once it is there, can be trusted.

A file is written beside its final name, flushed to the disk, and renamed. Whoever finds the final
name finds the whole file; a kill leaves at most a `*.part`, which goes when the directory is locked next.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from catsdogs.runtime.errors import Interrupted, VolumeError

_ADVICE = {
    errno.ENOSPC: "the volume is full; give it more room, or fewer images",
    errno.EDQUOT: "the quota is used up; give it more room, or fewer images",
    errno.EROFS: "it is read-only; mount it writable",
    errno.EACCES: "permission denied; make it writable for this user",
    errno.EPERM: "permission denied; make it writable for this user",
}


@contextlib.contextmanager
def failures(path: Path | str, only_known: bool = False) -> Iterator[None]:
    """Within it, an OSError becomes VolumeError: what was touched, what the system said, what to do.

    With `only_known` others than a full disk and the like, which may be bugs, pass through.
    """
    try:
        yield
    except OSError as error:
        if only_known and error.errno not in _ADVICE:
            raise
        advice = _ADVICE.get(error.errno or 0, "check the volume")
        raise VolumeError(f"{error.filename or path}: {error.strerror or error}: {advice}") from error


@contextlib.contextmanager
def new_file(path: Path, durable: bool = True) -> Iterator[IO[bytes]]:
    """A file open for writing that becomes `path`, whole, when the block ends without an error.

    Not `durable` spares the fsync, for files whose bytes are checked again before they are trusted.
    Raises VolumeError.
    """
    # As mkstemp would, in fewer system calls: it asks for other permissions first, and without a buffer's size Python
    # asks whether the file is a terminal.
    part = path.with_name(f".{path.name}.{random.getrandbits(64):016x}.part")
    with failures(path):
        try:
            file = open(part, "xb", io.DEFAULT_BUFFER_SIZE)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(part, "xb", io.DEFAULT_BUFFER_SIZE)
        try:
            with file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        if durable:
            sync_directory(path.parent)


def unnamed_file(directory: Path, size: int) -> IO[bytes]:
    """A file of that size in `directory` that vanishes when it is closed, however the process ends.

    Its room is taken at once, since a full disk found later, through a memory map, kills the process.
    Raises OSError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file = tempfile.TemporaryFile(dir=directory)
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        file.close()
        raise
    return file


def sync_directory(directory: Path) -> None:
    """Makes the names in `directory` durable: a rename is not, until its directory is synced."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, data: bytes, durable: bool = True) -> None:
    """Makes `path` hold `data`, whole or not at all. Raises VolumeError."""
    with new_file(path, durable) as file:
        file.write(data)


def read(path: Path) -> bytes | None:
    """The file's bytes, or None if there is no such file. Raises VolumeError."""
    with failures(path), contextlib.suppress(FileNotFoundError):
        return contents(path)
    return None


def contents(path: Path) -> bytes:
    """The file's bytes, in half of Path.read_bytes' system calls: at each of them a thread lets others have the
    interpreter, and may then wait for it. Raises OSError."""
    file = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(file).st_size
        data = os.read(file, size)
        while len(data) < size and (more := os.read(file, size - len(data))):
            data += more
        return data
    finally:
        os.close(file)


def sha256(path: Path) -> str:
    """Hex digest of the file's bytes. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Holds `directory` for this process until the block, or the process, ends.

    The kernel frees the lock of a dead process, so none is ever stale; what unfinished files such a process
    left anywhere in the directory are removed. Raises Interrupted (a later try helps) while another process
    holds it, VolumeError.
    """
    with failures(directory):
        directory.mkdir(parents=True, exist_ok=True)
        file = open(directory / ".lock", "ab")
    with file:
        with failures(directory):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Interrupted(
                    f"{directory}: another process works on it; wait for its end, or use another --run-id or --volume"
                ) from None
            for part in directory.rglob(".*.part"):
                part.unlink()
        yield
