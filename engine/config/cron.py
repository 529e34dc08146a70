"""Cron expressions, checked strictly: five fields, ranges, steps and names, and dates that exist. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)


def cron_mistake(text: str) -> str | None:
    """Say what is wrong with a cron expression; `None` when it is fine.

    >>> cron_mistake("*/5 * * * mon-fri"), cron_mistake("61 * * * *"), cron_mistake("0 0 30 2 *")
    (None, 'minute `61`: 0 to 59 is allowed', 'there is no such day: it would never fire')
    """
    parts = text.split()
    if len(parts) != len(_FIELDS):
        fields = "one field" if len(parts) == 1 else f"{len(parts)} fields"
        return f"{fields}; a cron expression has five: minute, hour, day of month, month, day of week"
    values: list[set[int]] = []
    for field, part in zip(_FIELDS, parts, strict=True):
        found = _parse_field(field, part)
        if isinstance(found, str):
            return found
        values.append(found)
    days, months = values[2], values[3]
    any_weekday = parts[4].startswith("*")
    if any_weekday and not any(min(days) <= _LONGEST[month - 1] for month in months):
        return "there is no such day: it would never fire"
    return None


def _parse_field(field: _Field, text: str) -> set[int] | str:
    """Give the values that a field admits, or what is wrong with it."""
    values: set[int] = set()
    for item in text.split(","):
        span, slash, step = item.partition("/")
        if slash and not (step.isascii() and step.isdigit() and 0 < int(step) <= field.high):
            return f"{field.name} `{item}`: a step is a whole number from 1 to {field.high}"
        low, high = field.low, field.high
        if span != "*":
            first, dash, last = span.partition("-")
            ends = [_parse_value(field, end) for end in ([first, last] if dash else [first])]
            if None in ends:
                names = f", or {field.words[0]} to {field.words[-1]}" if field.words else ""
                return f"{field.name} `{item}`: {field.low} to {field.high} is allowed{names}"
            low, high = int(ends[0] or 0), int(ends[-1] or 0) if dash or not slash else field.high
            if low > high:
                return f"{field.name} `{item}`: the range runs backwards"
        values |= set(range(low, high + 1, int(step) if slash else 1))
    return values


def _parse_value(field: _Field, text: str) -> int | None:
    if text.lower() in field.words:
        return field.words.index(text.lower()) + field.low
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        return None
    return int(text) if field.low <= int(text) <= field.high else None
