"""Takes rights away from this process for good, by the kernel's own means: prctl, capset and Landlock.

Landlock, which needs no privileges, leaves a process the folders that it names, and hides what other processes hold in
their memory and environment, from root too. Linux has it since 5.13, unless it is configured away; a container
engine's seccomp profile may refuse it.
"""

import contextlib
import ctypes
import enum
import errno
import os
import struct
from collections.abc import Collection, Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System calls, with the same numbers on every architecture."""
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 24, 38
_TRACING = {"CAP_SYS_RAWIO": 17, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38}
"""The capabilities with which root reads the memory of a hidden process, or all memory."""
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class Access(enum.IntFlag):
    """Landlock's rights. To execute and to control devices is not among those that are taken away."""

    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14


_OF_FILES = Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE
_READ = Access.READ_FILE | Access.READ_DIR


def hide() -> None:
    """Make environment, memory and descriptors of this process unreadable to others of the same user.

    A forked process stays hidden; one that executes a program does not.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def drop_tracing() -> None:
    """Give up the capabilities with which root reads hidden processes, as far as this one has them, for good."""
    for capability in _TRACING.values():
        # Fails without CAP_SETPCAP; then no program that is executed later gains any either: `confine` sees to that.
        with contextlib.suppress(OSError):
            _prctl(_PR_CAPBSET_DROP, capability)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
    sets = ctypes.create_string_buffer(24)
    _checked(_libc.capget(header, sets))
    # Effective, permitted and inheritable ones, from 0 to 31 and then from 32 on.
    words = list(struct.unpack("=6I", sets.raw))
    for capability in _TRACING.values():
        half, bit = divmod(capability, 32)
        for index in range(3 * half, 3 * half + 3):
            words[index] &= ~(1 << bit)
    _checked(_libc.capset(header, ctypes.create_string_buffer(struct.pack("=6I", *words), 24)))


def is_available() -> bool:
    """Return whether this process can confine itself to folders."""
    return _version() > 0


def confine(readable: Iterable[Path], writable: Iterable[Path], hidden: Collection[Path] = ()) -> None:
    """Leave this process nothing of the file system but what is below these files and folders.

    What is `hidden` below a readable folder is left out: the folder's other entries of now stay readable. Names that do
    not exist are skipped. Other processes can no longer be traced, nor their /proc/PID/environ, mem and fd be read.
    Applies to the calling thread and the threads that it starts: call it before there are others. Raises OSError.
    """
    handled = _handled(_version())
    attributes = struct.pack("=Q", handled)
    ruleset = _checked(_libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        for path in readable:
            for part in without(path, hidden):
                _allow(ruleset, part, _READ & handled)
        for path in writable:
            _allow(ruleset, path, handled)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def without(folder: Path, hidden: Collection[Path]) -> list[Path]:
    """Return what covers the folder except for what is hidden below it, and the hidden folders' own paths.

    Links are left out, as they may lead to what is hidden; what they lead to is covered by its own name.
    """
    inside = [path for path in hidden if path == folder or folder in path.parents]
    if not inside:
        return [folder]
    if folder in inside:
        return []
    with contextlib.suppress(OSError):
        children = [child for child in sorted(folder.iterdir()) if not child.is_symlink()]
        return [part for child in children for part in without(child, inside)]
    return []


def _version() -> int:
    """Return the version of the kernel's Landlock; 0 without it, or if a seccomp filter refuses it."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)))


def _handled(version: int) -> int:
    rights = Access(0)
    for right in Access:
        rights |= right
    if version < 3:
        rights &= ~Access.TRUNCATE
    if version < 2:
        rights &= ~Access.REFER
    return int(rights)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            rights &= int(_OF_FILES)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, handle), 12)
        _checked(_libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))
    except OSError as error:
        # What cannot be protected, such as a pipe, needs no rule.
        if error.errno != errno.EBADFD:
            raise
    finally:
        os.close(handle)


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
