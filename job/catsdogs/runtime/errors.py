"""The kinds of failure, each with its exit code.

    JobError
    ├── BadData           65
    │   ├── NotFound
    │   └── Changed
    ├── Unavailable       69
    ├── VolumeError       74
    ├── Interrupted       75
    ├── PermissionDenied  77
    └── ConfigError       78

The codes are those of BSD's sysexits.h, so that a Job's podFailurePolicy can tell failures worth a retry from others.
`EXIT_CODES` is the table; the documentation, the chart and the kubectl plugin follow it.
"""

import re
from collections.abc import Iterator
from typing import ClassVar

_CREDENTIALS = re.compile(
    r"""(?<=://)[^/\s@]+(?=@)       # user:password@ of an address
    |(?<=:)[^/:\s@]+(?=@)          # the same without its scheme
    |(?<=\?)[^\s'"?]*=[^\s'"]+    # a query, such as a presigned address has
    """,
    re.VERBOSE,
)


def masked(text: str) -> str:
    """Return the text without the credentials that addresses contain: passwords, presigned queries."""
    return _CREDENTIALS.sub("***", text)


def printable(text: str) -> str:
    """Return the text with unprintable characters escaped, so that a name from outside cannot forge a line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and its causes, each once: one that is raised again can be among its own."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__ or cause.__context__


class JobError(Exception):
    """A failure that is not a bug. Its text is one line: what failed, on what, and what to do about it.

    Credentials are masked: the texts of libraries quote addresses in full.
    """

    exit_code: ClassVar[int]
    kind: ClassVar[str]
    retryable: ClassVar[bool]

    def __init__(self, text: str):
        # It may quote names from archives.
        super().__init__(printable(masked(text)))


class BadData(JobError):
    exit_code = 65
    kind = "bad data: not the archive, broken, too few images"
    retryable = False


class NotFound(BadData):
    """No such bucket, object or file. Callers that expect it catch it."""


class Changed(BadData):
    """The object at `uri` has been replaced while it was read."""

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
"""Exit code → (meaning, whether it is retryable; None for success)."""
