"""Safe files on the volume: a file under its final name is complete, and nothing else on the volume is touched.

Others can write to a volume too. So the user's own path to it is resolved once, when it is first used, and everything
below is reached from there by descriptors, a name at a time, without following a symbolic link. Only regular files are
read, and none that is larger than what the job would have written.

A file is written beside its final name, synced, and renamed. A killed process leaves at most a `*.part` file. What a
process may have left, and what it will remove later, it records in its locked directory first (see Ledger): nothing
else is ever removed.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import io
import os
import random
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from catsdogs.runtime.errors import Interrupted, VolumeError
from catsdogs.storage import document

Result = TypeVar("Result")

MAX_CONTENTS = 256 << 20
"""Bytes of a file that is read into memory, unless the caller says otherwise."""
MAX_DEPTH = 32
"""Directories within each other. The job makes five."""
MAX_OPEN_DIRECTORIES = 32
"""Per root; the others are opened again when they are needed."""
PROCESS = secrets.token_hex(8)
"""Drawn at each start; part of the name of every unfinished file, by which the next start knows it."""
MADE = ".made"
MADE_FORMAT = 1

_NOT_A_FILE = errno.EMEDIUMTYPE
_ADVICE = {
    errno.ENOSPC: "the volume is full; give it more room, or fewer images",
    errno.EDQUOT: "the quota is used up; give it more room, or fewer images",
    errno.EROFS: "it is read-only; mount it writable",
    errno.EACCES: "permission denied; make it writable for this user",
    errno.EPERM: "permission denied; make it writable for this user",
    errno.ELOOP: "links on the volume are not followed; remove it",
    errno.EFBIG: "the job writes no such file; remove it",
    _NOT_A_FILE: "the job writes no such file; remove it",
    **dict.fromkeys((errno.EIO, errno.EREMOTEIO, errno.EUCLEAN), "check the volume"),
    # Of NFS, of a removed device, of FUSE.
    **dict.fromkeys(
        (errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN), "the volume is no longer there; mount it again"
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "too many files are open; raise the limit (ulimit -n)"),
}
NO_FILE = {errno.ELOOP, _NOT_A_FILE}
"""The codes of an OSError for what is neither a regular file nor a directory: a link, a pipe, a device."""
_KNOWN = _ADVICE.keys() - NO_FILE - {errno.EFBIG}
_MISSING = NO_FILE | {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EFBIG}
"""The codes of an OSError that say that there is no such file as the job would have written."""


class Missing(Exception):
    """Under the name there is no file as the job writes it: nothing, a link, a directory, a file that is too large."""


class _Handle:
    """An open directory. It is closed when nothing holds it any more."""

    def __init__(self, fd: int):
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class Root:
    """A directory whose path the user gave. It is opened when it is first used, and stays open. Thread-safe."""

    def __init__(self, path: Path):
        self.path = path
        self._handles: dict[tuple[str, ...], _Handle] = {}

    def directory(self, parts: tuple[str, ...], create: bool) -> _Handle:
        """Return the directory at these names below the root. Raises OSError, also for a symbolic link."""
        handle = self._handles.get(parts)
        if handle is None:
            handle = self._opened(parts, create)
            while len(self._handles) >= MAX_OPEN_DIRECTORIES:
                self._handles.pop(next(iter(self._handles)), None)
            self._handles[parts] = handle
        return handle

    def _opened(self, parts: tuple[str, ...], create: bool) -> _Handle:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        if not parts:
            if create:
                self.path.mkdir(parents=True, exist_ok=True)
            return _Handle(os.open(self.path, flags))
        above, name = self.directory(parts[:-1], create), parts[-1]
        try:
            try:
                return _Handle(os.open(name, flags | os.O_NOFOLLOW, dir_fd=above.fd))
            except FileNotFoundError:
                if not create:
                    raise
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=above.fd)
            return _Handle(os.open(name, flags | os.O_NOFOLLOW, dir_fd=above.fd))
        except OSError as error:
            raise _explained(error, above.fd, name, str(self.path.joinpath(*parts))) from None

    def forget(self) -> None:
        """Open all directories again when they are needed: one of them was removed."""
        self._handles.clear()


@dataclass(frozen=True, order=True)
class VolumePath:
    """A name on the volume: not a Path, so that no library opens it in another way than this module does."""

    _shown: str
    root: Root = field(compare=False, repr=False)
    parts: tuple[str, ...] = field(compare=False, repr=False)

    def __init__(self, root: Root, parts: tuple[str, ...] = ()):
        object.__setattr__(self, "_shown", str(root.path.joinpath(*parts)))
        object.__setattr__(self, "root", root)
        object.__setattr__(self, "parts", parts)

    def __str__(self) -> str:
        return self._shown

    def __truediv__(self, name: str) -> "VolumePath":
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts:
            raise ValueError(f"{name!r} is not a name below {self}")
        return VolumePath(self.root, (*self.parts, *parts))

    @property
    def name(self) -> str:
        return self.parts[-1]

    @property
    def parent(self) -> "VolumePath":
        return VolumePath(self.root, self.parts[:-1])


AnyPath = Path | VolumePath
"""A Path is the user's own: links in its directory are followed, a link in its last part is not."""


def root(path: Path) -> VolumePath:
    """Return the directory that the user gave. It need not exist; the first file that is written makes it."""
    return VolumePath(Root(path))


def _located(path: AnyPath) -> VolumePath:
    return path if isinstance(path, VolumePath) else root(path.parent) / path.name


def _reach(path: VolumePath, act: Callable[[int, str], Result], create: bool = False) -> Result:
    """Return what `act` does with the descriptor of the path's directory and the name in it. Raises OSError.

    With `create`, missing directories are made.
    """
    if not path.parts:
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    above, name = path.parts[:-1], path.parts[-1]
    handle = path.root.directory(above, create)
    try:
        try:
            return act(handle.fd, name)
        except FileNotFoundError:
            if os.fstat(handle.fd).st_nlink:
                raise
            # The directory was removed since it was opened.
            path.root.forget()
            handle = path.root.directory(above, create)
            return act(handle.fd, name)
    except OSError as error:
        raise _explained(error, handle.fd, name, str(path)) from None


def _explained(error: OSError, directory: int, name: str, shown: str) -> OSError:
    """Return the error with the whole path, and with what is there instead of a file or directory."""
    code, text = error.errno or 0, error.strerror or str(error)
    if code in (errno.ELOOP, errno.ENOTDIR):
        with contextlib.suppress(OSError):
            if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                code, text = errno.ELOOP, "a symbolic link"
    elif code == errno.ENXIO:
        code, text = _NOT_A_FILE, "not a regular file"
    return OSError(code, text, shown)


def _regular(status: os.stat_result, path: AnyPath, max_bytes: int | None) -> os.stat_result:
    """Return the status. Raises OSError unless it is that of a regular file of at most so many bytes."""
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(_NOT_A_FILE, "not a regular file", str(path))
    if max_bytes is not None and status.st_size > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes:,} bytes", str(path))
    return status


def _open(path: AnyPath, flags: int, max_bytes: int | None = None, create: bool = False) -> tuple[int, int]:
    """Return the descriptor of a regular file, and its size. Waits for no writer of a pipe. Raises OSError."""
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = _reach(_located(path), lambda directory, name: os.open(name, flags, 0o666, dir_fd=directory), create)
    try:
        return fd, _regular(os.fstat(fd), path, max_bytes).st_size
    except BaseException:
        os.close(fd)
        raise


@contextlib.contextmanager
def failures(path: AnyPath | str, only_known: bool = False) -> Iterator[None]:
    """Turn an OSError in the block into VolumeError: which file, what the system reports, what to do.

    With `only_known`, only a full, failing or unwritable volume becomes VolumeError; another OSError may be a bug, and
    stays.
    """
    try:
        yield
    except OSError as error:
        if only_known and error.errno not in _KNOWN:
            raise
        advice = _ADVICE.get(error.errno or 0, "check the volume")
        raise VolumeError(f"{error.filename or path}: {error.strerror or error}: {advice}") from error


@contextlib.contextmanager
def read_failures(path: AnyPath | str) -> Iterator[None]:
    """Like `failures`, but an OSError that says that there is no such file becomes Missing."""
    with failures(path):
        try:
            yield
        except OSError as error:
            if error.errno not in _MISSING:
                raise
            raise Missing(str(error)) from error


@contextlib.contextmanager
def new_file(path: AnyPath, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a file for writing that becomes `path` when the block ends without an error. Raises VolumeError.

    Without `durable` there is no fsync: for files whose bytes are checked again before they are trusted.
    """
    target = _located(path)
    # Like mkstemp, in fewer system calls.
    part = f".{target.name}.{PROCESS}{random.getrandbits(32):08x}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with failures(path):
        fd = _reach(target, lambda directory, _: os.open(part, flags, 0o666, dir_fd=directory), create=True)
        try:
            # Without a buffer size Python asks whether the file is a terminal.
            with open(fd, "wb", io.DEFAULT_BUFFER_SIZE) as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            _reach(target, functools.partial(_rename, part))
        except BaseException:
            with contextlib.suppress(OSError):
                _reach(target, lambda directory, _: os.unlink(part, dir_fd=directory))
            raise
        if durable:
            sync_directory(target.parent)


def _rename(source: str, directory: int, name: str) -> None:
    os.replace(source, name, src_dir_fd=directory, dst_dir_fd=directory)


def _readable_directory(directory: VolumePath, create: bool = False) -> int:
    """Return a new descriptor of the directory, from which its names can be read. Raises OSError."""
    handle = directory.root.directory(directory.parts, create)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle.fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(directory)) from None


def unnamed_file(directory: AnyPath, size: int) -> IO[bytes]:
    """Open a file of `size` bytes in `directory` that is gone once it is closed, however the process ends.

    Its space is allocated at once: a disk that is full at a later write to a memory map would kill the process. Raises
    OSError.
    """
    place = directory if isinstance(directory, VolumePath) else root(directory)
    handle = place.root.directory(place.parts, create=True)
    file = tempfile.TemporaryFile(dir=f"/proc/self/fd/{handle.fd}")
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        file.close()
        raise
    return file


def sync_directory(directory: AnyPath) -> None:
    """Make the names in `directory` durable: a rename is durable only once its directory is synced."""
    fd = _readable_directory(directory if isinstance(directory, VolumePath) else root(directory))
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write(path: AnyPath, data: bytes, durable: bool = True) -> None:
    """Write `data` to `path`, all or nothing. Raises VolumeError."""
    with new_file(path, durable) as file:
        file.write(data)


def append(path: AnyPath) -> IO[bytes]:
    """Open the file, made if it is missing, to add to its end. Raises OSError.

    A file that has another name as well, such as in a copy made of hard links, is replaced by a copy of its own.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    fd, _ = _open(path, flags, create=True)
    if os.fstat(fd).st_nlink > 1:
        os.close(fd)
        write(path, contents(path))
        fd, _ = _open(path, flags)
    return open(fd, "ab")


def read(path: AnyPath, max_bytes: int = MAX_CONTENTS) -> bytes | None:
    """Return the file's bytes, or None if there is no such file. Raises VolumeError."""
    with failures(path), contextlib.suppress(FileNotFoundError):
        return contents(path, max_bytes)
    return None


def contents(path: AnyPath, max_bytes: int = MAX_CONTENTS) -> bytes:
    """Return the file's bytes. Raises OSError, also if there are more than `max_bytes`.

    It takes half as many system calls as Path.read_bytes. At each of them a thread releases the interpreter, and may
    then have to wait for it.
    """
    file, size = _open(path, os.O_RDONLY, max_bytes)
    try:
        data = os.read(file, size)
        while len(data) < size and (more := os.read(file, size - len(data))):
            data += more
        return data
    finally:
        os.close(file)


def open_file(path: AnyPath, max_bytes: int | None = None) -> io.BufferedReader:
    """Open a regular file for reading. Raises OSError, also if it has more than `max_bytes`."""
    return open(_open(path, os.O_RDONLY, max_bytes)[0], "rb")


def sha256(path: AnyPath, max_bytes: int | None = None) -> str:
    """Return the hex digest of the file's bytes. Raises OSError."""
    with open_file(path, max_bytes) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def status(path: AnyPath) -> os.stat_result:
    """Return the status of a regular file. Raises OSError."""
    found = _status(path)
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "a symbolic link", str(path))
    return _regular(found, path, None)


def exists(path: AnyPath) -> bool:
    """Return whether there is anything of this name, a link included. Raises OSError."""
    try:
        _status(path)
    except FileNotFoundError:
        return False
    return True


def _status(path: AnyPath) -> os.stat_result:
    return _reach(_located(path), lambda directory, name: os.stat(name, dir_fd=directory, follow_symlinks=False))


def relative(path: AnyPath, directory: AnyPath) -> str:
    """Return the path's name relative to the directory, with forward slashes."""
    return PurePosixPath(str(path)).relative_to(str(directory)).as_posix()


def link(source: VolumePath, target: VolumePath) -> None:
    """Give the file `source` the name `target` in the same directory as well. Raises OSError, also if there is one."""
    _reach(target, lambda directory, name: os.link(source.name, name, src_dir_fd=directory, dst_dir_fd=directory))


def replace(source: VolumePath, target: VolumePath) -> None:
    """Rename the file `source` to `target` in the same directory. Raises OSError."""
    _reach(target, functools.partial(_rename, source.name))


def remove(path: AnyPath) -> None:
    """Remove the file, if there is one: only what this process made, or what a Ledger records. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        _reach(_located(path), lambda directory, name: os.unlink(name, dir_fd=directory))


def remove_if_empty(directory: VolumePath) -> None:
    """Remove the directory unless something is in it."""
    with contextlib.suppress(OSError):
        _reach(directory, lambda above, name: os.rmdir(name, dir_fd=above))


def walk(directory: VolumePath, on_unreadable: Callable[[str, OSError], None] | None = None) -> Iterator[str]:
    """Yield the name, relative to `directory`, of everything below it but directories.

    A directory that is missing is empty; below MAX_DEPTH directories nothing is looked for. Raises OSError. For a
    directory within `directory` that cannot be read `on_unreadable` is called instead, if given, with its name.
    """
    pending = [""]
    while pending:
        within = pending.pop()
        try:
            found = _entries(directory / within)
        except OSError as error:
            # One within may be gone by now, or be a link.
            if error.errno in (_MISSING if within else (errno.ENOENT, errno.ENOTDIR)):
                continue
            if not within or on_unreadable is None:
                raise
            on_unreadable(within, error)
            continue
        prefix = f"{within}/" if within else ""
        for name, is_directory in found:
            if not is_directory:
                yield prefix + name
            elif prefix.count("/") < MAX_DEPTH:
                pending.append(prefix + name)


def _entries(directory: VolumePath) -> list[tuple[str, bool]]:
    """Return what is in the directory, each with whether it is a directory itself. Raises OSError."""
    fd = _readable_directory(directory)
    try:
        with os.scandir(fd) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(directory)) from None
    finally:
        os.close(fd)


@contextlib.contextmanager
def new_directory(parent: VolumePath, prefix: str) -> Iterator[VolumePath]:
    """Make a directory that was not there before, for this user alone; remove it, and all in it, at the end.

    Raises VolumeError.
    """
    directory = parent / f"{prefix}-{secrets.token_hex(8)}"
    with failures(directory):
        _reach(directory, lambda above, name: os.mkdir(name, 0o700, dir_fd=above), create=True)
        # Opened now, so that what is removed at the end is this one, whatever has its name then.
        fd = _readable_directory(directory)
    try:
        yield directory
    finally:
        with contextlib.suppress(OSError):
            for _, folders, names, handle in os.fwalk(".", topdown=False, dir_fd=fd):
                for name in names:
                    os.unlink(name, dir_fd=handle)
                for name in folders:
                    os.rmdir(name, dir_fd=handle)
        os.close(fd)
        remove_if_empty(directory)


class Ledger:
    """What the job made in a locked directory and may remove: a record in the directory, `.made`.

    A file is recorded before it is made, so that a killed process leaves none that is not. What is not recorded is
    not the job's, whatever its name.
    """

    def __init__(self, directory: VolumePath):
        """Raises VolumeError, and ConfigError if a newer version wrote the record."""
        self.directory = directory
        self._path = directory / MADE
        recorded = self._read()
        processes, self._files = recorded.get("processes", []), recorded.get("files", [])
        if processes:
            self._remove_unfinished(processes)
        self._write()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def names(self, folder: str) -> list[str]:
        """Return the names of the recorded files in `folder`, without it."""
        return [name.removeprefix(f"{folder}/") for name in self._files if name.startswith(f"{folder}/")]

    def add(self, name: str) -> None:
        """Record that the job makes the file `name`, relative to the directory. Raises VolumeError."""
        if name not in self._files:
            self._files.append(name)
            self._write()

    def remove(self, *names: str) -> None:
        """Remove those of the files that are recorded. Raises VolumeError."""
        ours = [name for name in names if name in self._files]
        for name in ours:
            with failures(self.directory / name):
                remove(self.directory / name)
        if ours:
            self._files = [name for name in self._files if name not in ours]
            self._write()

    def _read(self) -> dict[str, list[str]]:
        """Return the record; empty if it is damaged, so that nothing counts as the job's."""
        try:
            recorded = document.load(read(self._path, 1 << 20) or b"{}", MADE_FORMAT, str(self._path))
        except ValueError:
            return {}
        recorded.pop(document.FORMAT, None)
        for names in recorded.values():
            if not isinstance(names, list) or not all(isinstance(name, str) and _is_below(name) for name in names):
                return {}
        return recorded

    def _write(self) -> None:
        write(self._path, document.dump({"processes": [PROCESS], "files": self._files}, MADE_FORMAT))

    def _remove_unfinished(self, processes: list[str]) -> None:
        pattern = re.compile(rf"\..+\.(?:{'|'.join(map(re.escape, processes))})[0-9a-f]{{8}}\.part", re.DOTALL)
        with failures(self.directory):
            for name in list(walk(self.directory)):
                if pattern.fullmatch(name.rpartition("/")[2]):
                    remove(self.directory / name)


def _is_below(name: str) -> bool:
    return bool(name) and not name.startswith("/") and ".." not in name.split("/") and "\0" not in name


@contextlib.contextmanager
def lock(directory: AnyPath) -> Iterator[Ledger]:
    """Lock `directory` for this process until the block, or the process, ends.

    The kernel frees the lock of a dead process, so locks are never stale. Removes the `*.part` files that such a
    process left anywhere in the directory. Raises Interrupted, which is retryable, while another process holds the
    lock, and VolumeError.
    """
    place = directory if isinstance(directory, VolumePath) else root(directory)
    with failures(directory):
        file = append(place / ".lock")
    with file:
        with failures(directory):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Interrupted(
                    f"{directory}: another process is using it; wait until it ends, or use another --run-id or --volume"
                ) from None
        yield Ledger(place)
