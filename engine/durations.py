"""Fixed durations as text (`90s`, `6h`, `7d`) and as integer microseconds, the engine's one unit of time."""

from __future__ import annotations

import re

MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
DURATION_PATTERN = r"^(0|[1-9][0-9]{0,8})(us|ms|s|m|h|d|w)$"


def microseconds(text: str) -> int:
    """Parse a duration; raises `ValueError` that says what is allowed.

    >>> microseconds("7d")
    604800000000
    """
    match = re.fullmatch(DURATION_PATTERN, text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration: write a whole number and one of {', '.join(MICROSECONDS)}, as in 30d"
        )
    return int(match[1]) * MICROSECONDS[match[2]]


def as_text(duration: int) -> str:
    """Write microseconds in the largest unit that divides them, days before weeks.

    >>> as_text(604_800_000_000)
    '7d'
    """
    unit = next(unit for unit in ("d", "h", "m", "s", "ms", "us") if duration % MICROSECONDS[unit] == 0)
    return f"{duration // MICROSECONDS[unit]}{unit}"
