"""The kinds of failure, each with its exit code.

The codes are those of BSD's sysexits.h, so that a Job's podFailurePolicy can tell a failure that a
retry may cure from one that it cannot. `EXIT_CODES` is the table; the README and the chart follow it.
"""

import re
from typing import ClassVar

_CREDENTIALS = re.compile(
    r"""(?<=://)[^/\s@]+(?=@)       # user:password@ of an address
    |(?<=:)[^/:\s@]+(?=@)          # the same without its scheme
    |(?<=\?)[^\s'"?]*=[^\s'"]+    # a query, such as a presigned address has
    """,
    re.VERBOSE,
)


def masked(text: str) -> str:
    """The text without the credentials that an address may carry: a user's password, a presigned query."""
    return _CREDENTIALS.sub("***", text)


def printable(text: str) -> str:
    """The text with what is not printable escaped: a name from outside cannot write a line of its own."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class JobError(Exception):
    """A failure that is not a bug. Its text is one line: what failed, on what, and what to do about it.

    Texts of libraries go into it, and these show addresses as they were given: credentials in them are masked.
    """

    exit_code: ClassVar[int]
    kind: ClassVar[str]
    retryable: ClassVar[bool]

    def __init__(self, text: str):
        # Names from archives are in it too.
        super().__init__(printable(masked(text)))


class BadData(JobError):
    exit_code = 65
    kind = "bad data: not the archive, broken, too few images"
    retryable = False


class NotFound(BadData):
    """No such bucket, object or file. Callers for whom absence is an answer catch it."""


class Changed(BadData):
    """The object at `uri` is no longer the one that was begun with."""

    def __init__(self, uri: str):
        super().__init__(f"{uri}: changed while it was read; run again when it is complete")


class Unavailable(JobError):
    exit_code = 69
    kind = "unavailable: storage unreachable or failing, GPU asked for and not there"
    retryable = True


class VolumeError(JobError):
    exit_code = 74
    kind = "the volume: full, failing or not writable"
    retryable = True


class Interrupted(JobError):
    exit_code = 75
    kind = "interrupted (SIGTERM, SIGINT), progress saved"
    retryable = True


class PermissionDenied(JobError):
    exit_code = 77
    kind = "storage refuses the credentials, or they may not read or write there"
    retryable = False


class ConfigError(JobError):
    exit_code = 78
    kind = "settings that contradict each other or what they point at"
    retryable = False


EXIT_CODES: dict[int, tuple[str, bool | None]] = {
    0: ("published, or already published under this run id", None),
    1: ("a bug", True),
    2: ("wrong usage of the command line", False),
    **{
        error.exit_code: (error.kind, error.retryable)
        for error in (BadData, Unavailable, VolumeError, Interrupted, PermissionDenied, ConfigError)
    },
}
"""Exit code → (what it means, whether a retry may help)."""
