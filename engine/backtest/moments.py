"""The simulated clock: at which moments policies decide, and which rows are scored between them. Pure.

Enters: the history's span and what was asked. Leaves: moments, ascending; the period of each ends where the next begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engine.clock import isoformat
from engine.durations import microseconds
from engine.errors import UsageError

MOST_MOMENTS = 2000
_FIRST_SHARE = 4  # a quarter of the history trains the first model, unless `--from` says otherwise
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says of time; what is missing follows from the history."""

    start: datetime | None = None
    end: datetime | None = None
    every: str = "7d"


@dataclass(frozen=True, slots=True)
class Moments:
    """When policies decide, and where the last period ends."""

    at: tuple[datetime, ...]
    end: datetime

    @property
    def names(self) -> tuple[str, ...]:
        """Call each moment by its date, or by its time where that is not midnight."""
        return tuple(name_of(moment) for moment in self.at)

    def end_of(self, index: int) -> datetime:
        """Give where the period of a moment ends."""
        return self.at[index + 1] if index + 1 < len(self.at) else self.end


def name_of(moment: datetime) -> str:
    """Call a moment by its date, or by its time where that is not midnight.

    >>> name_of(datetime(2024, 3, 1, tzinfo=UTC)), name_of(datetime(2024, 3, 1, 6, tzinfo=UTC))
    ('2024-03-01', '2024-03-01T06:00:00.000000Z')
    """
    return isoformat(moment)[:10] if moment == midnight(moment) else isoformat(moment)


def choose_moments(first: datetime, last: datetime, asked: Asked) -> Moments:
    """Lay moments out over a history from `first` to `last`; raises `UsageError` for what leaves nothing to compare.

    >>> found = choose_moments(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 3, 31, 12, tzinfo=UTC), Asked())
    >>> found.names[0], found.names[-1], found.end.date().isoformat()
    ('2024-01-24', '2024-03-20', '2024-03-27')
    """
    every = timedelta(microseconds=microseconds(asked.every))
    if every <= timedelta(0):
        raise UsageError(f"--every {asked.every}: time has to pass", hint="as in 7d or 12h")
    start = asked.start or _midnight_after(first + (last - first) / _FIRST_SHARE)
    end = asked.end or _midnight_after(last)
    span = f"the history reaches from {isoformat(first)} to {isoformat(last)}"
    if start <= first:
        raise UsageError(f"--from {isoformat(start)} leaves no rows to train the first model; {span}")
    if start >= min(end, last):
        raise UsageError(f"--from {isoformat(start)} leaves no rows to score; {span}")
    end = min(end, _midnight_after(last))
    count = int((end - start) / every)
    if asked.end is not None and start + count * every < end:
        count += 1  # the last period is shorter, as asked
    if count > MOST_MOMENTS:
        raise UsageError(
            f"{count:,} decisions are too many, {MOST_MOMENTS:,} are allowed", hint="choose a longer --every"
        )
    if count < 2:
        raise UsageError(f"there is no second decision in {asked.every}; {span}", hint="choose a shorter --every")
    moments = tuple(start + index * every for index in range(count))
    return Moments(moments, end if asked.end is not None else start + count * every)


def midnight(moment: datetime) -> datetime:
    """Give the start of the day in UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _midnight_after(moment: datetime) -> datetime:
    start = midnight(moment)
    return start if start == moment else start + _DAY
