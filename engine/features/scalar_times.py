"""Calendars of one moment: the fields of a local time, with offsets of time zones as Polars knows them.

Python's zone data is another copy than the one in Polars, so an offset is asked of Polars, once for each hour of UTC in
which it is the same at both ends. Called by `scalar_functions`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Any

import polars as pl

from engine.features.scalar_lowering import by_lowering
from engine.features.syntax import Call, Column, Literal
from engine.features.timestamps import MAX_MOMENT, MIN_MOMENT, TIMESTAMP

_HOUR, _DAY = 3_600_000_000, 86_400_000_000
_EPOCH = date(1970, 1, 1).toordinal()
_KEPT = 65_536

_READ: dict[str, Callable[[date], int]] = {
    "weekday": lambda day: day.isoweekday(),
    "day": lambda day: day.day,
    "day_of_year": lambda day: day.timetuple().tm_yday,
    "week": lambda day: day.isocalendar().week,
    "month": lambda day: day.month,
    "year": lambda day: day.year,
}


def calendar(name: str, zone: str) -> Callable[[int], int]:
    """A function from a moment to a field (`minute`, `hour`, `weekday`, …) of its local time in `zone`.

    >>> calendar("hour", "America/New_York")(1_377_995_400_000_000)
    20
    """
    lowered = by_lowering(Call(name, (Column("0"), Literal("str", zone))), {"0": "timestamp"})
    offset = _offsets(zone)

    def read(moment: int) -> int:
        shift = offset(moment)
        local = moment + shift if shift is not None else MAX_MOMENT + 1
        if not MIN_MOMENT <= local <= MAX_MOMENT:
            return int(lowered(moment))
        if name == "hour":
            return local % _DAY // _HOUR
        if name == "minute":
            return local % _HOUR // 60_000_000
        return _field(name, local // _DAY)

    return read


@lru_cache(_KEPT)
def _field(name: str, days: int) -> int:
    return _READ[name](date.fromordinal(_EPOCH + days))


@lru_cache(None)
def _offsets(zone: str) -> Callable[[int], int | None]:
    """Microseconds that local time is ahead of UTC; `None` in an hour in which that changes."""
    if zone == "UTC":
        return lambda _moment: 0

    @lru_cache(_KEPT)
    def of_hour(hour: int) -> int | None:
        ends = [max(hour * _HOUR, MIN_MOMENT), min(hour * _HOUR + _HOUR - 1, MAX_MOMENT)]
        utc = pl.Series(ends, dtype=pl.Int64).cast(TIMESTAMP)
        local: Any = utc.dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.epoch("us")
        first, last = (local - pl.Series(ends)).to_list()
        return int(first) if first == last else None

    return lambda moment: of_hour(moment // _HOUR)
