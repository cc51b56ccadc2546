"""What is the matter with a run, and what messages of the cluster mean. Pure."""

import re
from collections.abc import Sequence
from typing import NamedTuple


class Finding(NamedTuple):
    what: str
    """The cause, in one line."""
    where: str
    """The object that shows it, as in 'pod pets-1-abcde'."""
    evidence: list[str]
    """What the cluster or the job itself reports."""
    next: list[str]
    """What to do about it."""


class Rule(NamedTuple):
    """What a message of the cluster means."""

    pattern: str
    what: str
    """May contain the pattern's groups, as in {name}."""
    next: str

    def apply(self, message: str) -> tuple[str, str] | None:
        """Return (what, next step) if the message matches."""
        match = re.search(self.pattern, message)
        return (self.what.format(**match.groupdict()), self.next.format(**match.groupdict())) if match else None


def first_rule(rules: Sequence[Rule], message: str) -> tuple[str, str] | None:
    return next((meaning for rule in rules if (meaning := rule.apply(message))), None)
