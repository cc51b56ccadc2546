"""Numbers for people: sizes, durations, percentages, counts."""


def size_text(count: float) -> str:
    """Return 1234567 as '1.2 MB', in powers of 1000."""
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB"):
        count /= 1000
        # Rounded before it is compared: 999,950 bytes must not become 1000.0 kB.
        if round(count, 1) < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.2f} GB"


def duration_text(seconds: float) -> str:
    """Return 0.43 as '0.4 s', 75 as '1:15 min', 7380 as '2:03 h'."""
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"


def percent(share: float) -> str:
    """Return 0.727 as '72.7 %'."""
    return f"{100 * share:.1f} %"


def count_text(count: int, noun: str) -> str:
    """Return (1, 'epoch') as '1 epoch', (2000, 'image') as '2,000 images'."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
