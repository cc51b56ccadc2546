"""How the plugin fails: one line, and an exit code from BSD's sysexits.h, as in the job itself.

Failure
├── Usage               2
├── NotFound           65
├── Unavailable        69
├── Gone               69
├── PermissionDenied   77
└── ConfigError        78
    └── Conflict
"""

from typing import ClassVar

from kubectl_catsdogs.base.text import clean


class Failure(Exception):
    """A failure that is not a bug. Its text is one line: what failed, on what, and what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, text: str):
        super().__init__(clean(text))


class Usage(Failure):
    """The command line is wrong or ambiguous."""

    exit_code = 2


class NotFound(Failure):
    """There is no such object. Callers that expect its absence catch this."""

    exit_code = 65


class Unavailable(Failure):
    """The API server was unreachable, overloaded or failing for longer than the retry budget."""

    exit_code = 69


class PermissionDenied(Failure):
    """The API server does not accept the user's credentials, or RBAC does not allow the request."""

    exit_code = 77


class ConfigError(Failure):
    """The kubeconfig is unusable, or the API server rejects an object."""

    exit_code = 78


class Conflict(ConfigError):
    """The object already exists, or was changed by somebody else."""

    may_be_ours = False
    """Whether an earlier attempt of the same request may have created it."""


class Gone(Failure):
    """The resource version is too old: list again."""

    exit_code = 69
