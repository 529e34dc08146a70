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
    zone = ZoneInfo(schedule.zone)
    start = now.astimezone(zone).replace(tzinfo=None) - _LONGEST_LEAP
    walls = CronSim(schedule.expression, start)
    if schedule.follows_real_time:
        return _first_shown(walls, zone, now)
    return next((moment for moment in (on_the_clock(wall, zone) for wall in walls) if moment > now), None)


def _first_shown(walls: Iterator[datetime], zone: ZoneInfo, now: datetime) -> datetime | None:
    """Give the first moment after `now` at which one of the walls, in their order, is shown."""
    found: datetime | None = None
    for wall in walls:
        if found is not None and wall.replace(tzinfo=zone).astimezone(UTC) > found + _LONGEST_LEAP:
            break
        found = min(
            (*(moment for moment in _shown(wall, zone) if moment > now), *([found] if found else ())), default=None
        )
    return found


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
    # On the wall a later moment can be an earlier slot, when the clock was set back: look a little further.
    further = _LONGEST_LEAP if not schedule.follows_real_time or _leaps_near(before, zone) else timedelta(0)
    start = before.astimezone(zone).replace(tzinfo=None) + further
    walls = CronSim(schedule.expression, start, reverse=True)
    if schedule.follows_real_time:
        yield from (moment for moment in _shown_backwards(walls, zone) if moment <= before)
        return
    for wall in walls:
        yield on_the_clock(wall, zone)


def _shown_backwards(walls: Iterator[datetime], zone: ZoneInfo) -> Iterator[datetime]:
    """Give every moment at which one of the walls is shown, latest first.

    A clock that is set back shows later moments as earlier walls, so some are held until no wall to come can be later.
    """
    held: list[datetime] = []
    for wall in walls:
        limit = wall.replace(tzinfo=zone).astimezone(UTC)
        limit += _LONGEST_LEAP if _leaps_near(limit, zone) else timedelta(0)
        while held and held[-1] > limit:
            yield held.pop()
        held = sorted({*held, *_shown(wall, zone)})
    yield from reversed(held)


def _leaps_near(moment: datetime, zone: ZoneInfo) -> bool:
    """Say whether the clock is changed so close to a moment that walls and moments may be in another order."""
    around = (moment + sign * _LONGEST_LEAP for sign in (-1, 1))
    return len({item.astimezone(zone).utcoffset() for item in around}) > 1


def _shown(wall: datetime, zone: ZoneInfo) -> set[datetime]:
    """Give the moments at which a wall is shown: none when it is leapt over, two when the clock is set back over it."""
    moments = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return {moment for moment in moments if moment.astimezone(zone).replace(tzinfo=None) == wall}
