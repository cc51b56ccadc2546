"""Text for people: harmless, and short where it stands for a time, a size or a count."""

from datetime import UTC, datetime


def clean(text: str) -> str:
    """The text as one line that no terminal obeys: what is not printable is escaped, but for a tab.

    Messages, names and logs come from the cluster, and whoever writes one there must not write on this terminal.
    """
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)


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
    """An RFC 3339 time, cut to microseconds; None for none and for what is no time."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def listed(names: list[str], most: int = 5) -> str:
    """'a, b, c and 3 more'."""
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
