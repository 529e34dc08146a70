"""The moments of a cron schedule in a time zone, as UTC. Pure but for the time zone database; called by the trigger `cron`.

The rule for clocks that change, which is Debian cron's: a schedule whose hour is free (`*`, `*/2`) follows real time. A
schedule at given hours follows the wall: each moment on the wall fires once; one that the clock leaps over fires at the
leap, and one that the clock shows twice fires the first time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

_LONGEST_LEAP = timedelta(hours=3)  # no zone moves its clock by more at once


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression with five fields, checked before, and an IANA zone."""

    expression: str
    zone: str = "UTC"

    @property
    def follows_real_time(self) -> bool:
        """Say whether the hour is free, so that a changed clock changes nothing."""
        return self.expression.split()[1].startswith("*")


def latest_slot(schedule: Schedule, now: datetime) -> datetime | None:
    """Give the last slot at or before `now` (aware), or `None` when there has not been one for years.

    >>> latest_slot(Schedule("30 2 * * *", "America/New_York"), datetime(2024, 3, 10, 12, tzinfo=UTC)).isoformat()
    '2024-03-10T07:00:00+00:00'
    """
    found = (slot for slot in _backwards(schedule, now + timedelta(minutes=1)) if slot <= now)
    return next(found, None)


def slots_between(schedule: Schedule, after: datetime, until: datetime, most: int) -> list[datetime]:
    """List the slots in `(after, until]`, ascending; of more than `most`, the latest."""
    found: list[datetime] = []
    for slot in _backwards(schedule, until + timedelta(minutes=1)):
        if slot <= after or len(found) == most:
            break
        if slot <= until and (not found or slot < found[-1]):
            found.append(slot)
    return found[::-1]


def next_slot(schedule: Schedule, now: datetime) -> datetime | None:
    """Give the first slot after `now`, or `None` when there will be none for years."""
    if schedule.follows_real_time:
        moments: Iterator[datetime] = CronSim(schedule.expression, now.astimezone(ZoneInfo(schedule.zone)))
        return next((moment.astimezone(UTC) for moment in moments), None)
    zone = ZoneInfo(schedule.zone)
    start = now.astimezone(zone).replace(tzinfo=None) - _LONGEST_LEAP
    walls = (on_the_clock(wall, zone) for wall in CronSim(schedule.expression, start))
    return next((moment for moment in walls if moment > now), None)


def on_the_clock(wall: datetime, zone: ZoneInfo) -> datetime:
    """Give the UTC moment at which a naive wall time is first shown; for one that is leapt over, the moment of the leap.

    >>> on_the_clock(datetime(2024, 3, 10, 2, 30), ZoneInfo("America/New_York")).isoformat()
    '2024-03-10T07:00:00+00:00'
    """
    moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall:
        return moment
    low, high = moment - _LONGEST_LEAP, moment  # whole minutes; the offset changes between them
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(minutes=1):
        middle = (low + (high - low) / 2).replace(second=0, microsecond=0)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def _backwards(schedule: Schedule, before: datetime) -> Iterator[datetime]:
    """Slots before a moment, latest first; the first few may be as late as the moment itself."""
    zone = ZoneInfo(schedule.zone)
    if schedule.follows_real_time:
        for moment in CronSim(schedule.expression, before.astimezone(zone), reverse=True):
            yield moment.astimezone(UTC)
        return
    # On the wall a later moment can be an earlier slot, when the clock was set back: look a little further.
    start = before.astimezone(zone).replace(tzinfo=None) + _LONGEST_LEAP
    for wall in CronSim(schedule.expression, start, reverse=True):
        yield on_the_clock(wall, zone)
