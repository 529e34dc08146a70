"""Moments: the one time type of frames, its range, and texts that stand for a moment.

A moment is microseconds since 1970 in UTC (`TIMESTAMP`), within the years 1 to 9999. Polars guesses a text's format
from the data it happens to see, so the formats are fixed here. Called by `lowering`, `sources`, `compute` and
`label`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeAlias

import polars as pl

from engine.clock import to_microseconds
from engine.errors import UsageError

TIMESTAMP = pl.Datetime("us", "UTC")
MIN_MOMENT = -62_135_596_800_000_000
MAX_MOMENT = 253_402_300_799_999_999
Moment: TypeAlias = str | int | datetime

_ISO = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
_ISO_ZONED = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")


def moment_of(value: Moment) -> int:
    """A limit such as `as_of` in microseconds: RFC 3339 text (UTC when it has no zone), a datetime, or microseconds.

    >>> moment_of("1970-01-01T00:00:01Z")
    1000000
    """
    if isinstance(value, int):
        return value
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise UsageError(f"{value!r} is not a moment", hint="write it as 2013-11-01T00:00:00Z") from None
    return to_microseconds(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def parse_timestamps(text: pl.Expr, pattern: str | None = None) -> pl.Expr:
    """Texts as moments: ISO 8601 dates and times (UTC when they name no zone), or one fixed pattern; else null."""
    if pattern is not None:
        return within_range(_by_pattern(text, pattern))
    plain = text.str.strip_chars().str.replace(r"^(\d{4}-\d{2}-\d{2})[Tt]", "${1} ")
    zoned = plain.str.replace(r"[zZ]$", "+00:00")
    day = plain.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    candidates = [_by_pattern(plain, item) for item in _ISO] + [_by_pattern(zoned, item) for item in _ISO_ZONED]
    return within_range(pl.coalesce([*candidates, day]))


def within_range(moment: pl.Expr) -> pl.Expr:
    """The moment, or null outside the years 1 to 9999. Evaluates its argument twice: give a column or a cheap text."""
    micros = moment.dt.epoch("us")
    return pl.when(micros.is_between(MIN_MOMENT, MAX_MOMENT)).then(moment)


def _by_pattern(text: pl.Expr, pattern: str) -> pl.Expr:
    if "%z" in pattern or "%#z" in pattern:
        return text.str.to_datetime(pattern, time_unit="us", time_zone="UTC", strict=False)
    if "%H" in pattern:
        return text.str.to_datetime(pattern, time_unit="us", strict=False).dt.replace_time_zone("UTC")
    return text.str.to_date(pattern, strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
