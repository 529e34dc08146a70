"""Time as an argument: `execute` and `tick` take a `Clock`, so history can be replayed and tests can set the hour."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Where now comes from."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        return datetime.now(UTC)


class FixedClock:
    """A clock that stands still; for tests and replays."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def now(self) -> datetime:
        """The moment it was given."""
        return self._moment


def stopwatch() -> float:
    """Seconds from an arbitrary start, never going back; for durations only."""
    return time.perf_counter()


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970 in UTC, exactly; `moment` must be aware.

    >>> to_microseconds(datetime(1970, 1, 2, tzinfo=UTC))
    86400000000
    """
    return (moment - EPOCH) // timedelta(microseconds=1)


def isoformat(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds.

    >>> isoformat(datetime(2013, 1, 1, tzinfo=UTC))
    '2013-01-01T00:00:00.000000Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
