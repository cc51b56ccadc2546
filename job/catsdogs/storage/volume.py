"""Safe files on the volume: a file under its final name is complete.

A file is written beside its final name, synced, and renamed. A killed process leaves at most a `*.part` file, which is
removed when the directory is locked next.
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
    **dict.fromkeys((errno.EIO, errno.EREMOTEIO, errno.EUCLEAN), "check the volume"),
    # Of NFS, of a removed device, of FUSE.
    **dict.fromkeys(
        (errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN), "the volume is no longer there; mount it again"
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "too many files are open; raise the limit (ulimit -n)"),
}


@contextlib.contextmanager
def failures(path: Path | str, only_known: bool = False) -> Iterator[None]:
    """Turn an OSError in the block into VolumeError: which file, what the system reports, what to do.

    With `only_known`, only a full, failing or unwritable volume becomes VolumeError; another OSError may be a bug, and
    stays.
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
    """Open a file for writing that becomes `path` when the block ends without an error. Raises VolumeError.

    Without `durable` there is no fsync: for files whose bytes are checked again before they are trusted.
    """
    # Like mkstemp, in fewer system calls: mkstemp sets other permissions, and without a buffer size Python asks whether
    # the file is a terminal.
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
    """Open a file of `size` bytes in `directory` that is gone once it is closed, however the process ends.

    Its space is allocated at once: a disk that is full at a later write to a memory map would kill the process. Raises
    OSError.
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
    """Make the names in `directory` durable: a rename is durable only once its directory is synced."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, data: bytes, durable: bool = True) -> None:
    """Write `data` to `path`, all or nothing. Raises VolumeError."""
    with new_file(path, durable) as file:
        file.write(data)


def read(path: Path) -> bytes | None:
    """Return the file's bytes, or None if there is no such file. Raises VolumeError."""
    with failures(path), contextlib.suppress(FileNotFoundError):
        return contents(path)
    return None


def contents(path: Path) -> bytes:
    """Return the file's bytes. Raises OSError.

    It takes half as many system calls as Path.read_bytes. At each of them a thread releases the interpreter, and may
    then have to wait for it.
    """
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
    """Return the hex digest of the file's bytes. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Lock `directory` for this process until the block, or the process, ends.

    The kernel frees the lock of a dead process, so locks are never stale. Removes the `*.part` files that such a
    process left anywhere in the directory. Raises Interrupted, which is retryable, while another process holds the
    lock, and VolumeError.
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
                    f"{directory}: another process is using it; wait until it ends, or use another --run-id or --volume"
                ) from None
            for part in directory.rglob(".*.part"):
                part.unlink()
        yield
