"""How the plugin fails: in one line, with an exit code of BSD's sysexits.h, as the job itself does."""

from typing import ClassVar

from kubectl_catsdogs.base.text import clean


class Failure(Exception):
    """A failure that is not a bug. Its text is one line: what failed, on what, what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, text: str):
        super().__init__(clean(text))


class Usage(Failure):
    """The command line leaves open what is meant."""

    exit_code = 2


class NotFound(Failure):
    """No such object. Callers for whom absence is an answer catch it."""

    exit_code = 65


class Unavailable(Failure):
    """The API server is away, overloaded or failing, for longer than we wait."""

    exit_code = 69


class Refused(Failure):
    """The API server does not know the user, or RBAC does not allow it."""

    exit_code = 77


class Contradiction(Failure):
    """A kubeconfig that leads nowhere, or an object that the API server does not take."""

    exit_code = 78


class Conflict(Contradiction):
    """The object is there already, or was changed meanwhile."""

    repeated = False
    """Whether an earlier attempt may have made it."""


class Gone(Failure):
    """The resource version is too old: list again."""

    exit_code = 69
