"""Text for terminals: escaped, and short where it shows a time or a list."""

import shlex
from datetime import UTC, datetime

MAX_DIGITS = 18


def clean(text: str) -> str:
    """Return the text as one line without control characters: all but printable characters and tabs are escaped.

    Messages, names and logs come from the cluster; their authors must not control this terminal.
    """
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)


def whole_number(text: str) -> int | None:
    """Return the number that the text is in decimal digits; None for anything else, or more digits than any number of
    ours has: Python refuses to read thousands."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else None


def fixed_width(text: str) -> str:
    """Return the text as `clean` does, as wide as it is long: a tab would have any width."""
    return clean(text).replace("\t", " ")


def duration(seconds: float) -> str:
    """45 → '45s', 125 → '2m5s', 7380 → '2h3m', 200000 → '2d7h'; as kubectl writes ages."""
    whole = max(0, int(seconds))
    days, hours, minutes, rest = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{days}d{hours}h" if hours else f"{days}d"
    if hours:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    if minutes:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    return f"{rest}s"


def moment(text: str | None) -> datetime | None:
    """Parse an RFC 3339 time, cut to microseconds; None for None and for anything else."""
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def listed(names: list[str], limit: int = 5) -> str:
    """'a, b, c and 3 more'."""
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def plural(count: float | str, noun: str) -> str:
    """(1, 'node') → '1 node', (3, 'node') → '3 nodes'. A count that the cluster sent may be text."""
    return f"{count} {noun}" if str(count) == "1" else f"{count} {noun}s"


def shell_command(*words: str) -> str:
    """Return a command line that can be copied into a shell."""
    return shlex.join(words)
