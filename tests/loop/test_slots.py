"""Slots against an independent calculation: every minute of real time, by what the clock on the wall shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.loop.slots import Schedule, latest_slot, next_slot, slots_between

MINUTE = timedelta(minutes=1)
# Around both changes of the clock in each zone, and one whose change is half an hour.
ZONES = ("America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "UTC", "Asia/Kolkata")
STARTS = tuple(
    datetime(2024, month, day, tzinfo=UTC) for month, day in ((3, 8), (3, 29), (4, 5), (10, 4), (10, 25), (11, 1))
)
DAYS = 4
WEEKDAYS = {"*": range(7), "sun": [6], "1-5": range(5)}
NEVER = datetime(1, 1, 1)  # noqa: DTZ001 - a time on the wall


def field(draw: st.DrawFn, low: int, high: int) -> str:
    kind = draw(st.sampled_from(("star", "step", "one", "list", "range")))
    value = st.integers(low, high)
    if kind == "star":
        return "*"
    if kind == "step":
        return f"*/{draw(st.integers(1, high))}"
    if kind == "one":
        return str(draw(value))
    if kind == "list":
        return ",".join(map(str, sorted(draw(st.sets(value, min_size=1, max_size=4)))))
    first, last = sorted((draw(value), draw(value)))
    return f"{first}-{last}"


@st.composite
def expressions(draw: st.DrawFn) -> str:
    return f"{field(draw, 0, 59)} {field(draw, 0, 23)} * * {draw(st.sampled_from(('*', '*', 'sun', '1-5')))}"


@cache
def values(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        ends = (low, high) if span == "*" else tuple(int(end) for end in (span.split("-") * 2)[:2])
        found |= set(range(ends[0], ends[1] + 1, int(step or 1)))
    return found


def matches(expression: str, wall: datetime) -> bool:
    minute, hour, _, _, weekday = expression.split()
    return (
        wall.minute in values(minute, 0, 59)
        and wall.hour in values(hour, 0, 23)
        and wall.weekday() in WEEKDAYS[weekday]
    )


def by_every_minute(expression: str, zone: str, start: datetime, days: int = DAYS) -> list[datetime]:
    """The slots in `[start, start + days)`: each minute is looked at, and a leap of the clock is walked through."""
    found: list[datetime] = []
    moment, seen = start - timedelta(days=1), NEVER
    while moment < start + timedelta(days=days):
        wall = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        if expression.split()[1].startswith("*"):
            fires = matches(expression, wall)
        else:  # the walls that are new at this moment: this one, and those that were leapt over
            first = wall if seen == NEVER else min(wall, seen + MINUTE)
            new = [first + MINUTE * n for n in range(int((wall - first) / MINUTE) + 1)] if wall > seen else []
            fires = any(matches(expression, item) for item in new if item > seen)
        seen = max(seen, wall)
        if fires and moment >= start:
            found.append(moment)
        moment += MINUTE
    return found


@settings(max_examples=40, deadline=None)
@example("16-55 */16 * * *", "Australia/Lord_Howe", datetime(2024, 10, 4, tzinfo=UTC))  # a leap of half an hour
@given(expressions(), st.sampled_from(ZONES), st.sampled_from(STARTS))
def test_slots_are_those_of_every_minute(expression: str, zone: str, start: datetime) -> None:
    schedule, until = Schedule(expression, zone), start + timedelta(days=DAYS) - MINUTE
    expected = by_every_minute(expression, zone, start)
    assert slots_between(schedule, start - MINUTE, until, 10_000) == expected
    if expected:
        assert latest_slot(schedule, until) == expected[-1]
        assert slots_between(schedule, start - MINUTE, until, 2) == expected[-2:]


@settings(max_examples=25, deadline=None)
@given(expressions(), st.sampled_from(ZONES), st.sampled_from(STARTS), st.lists(st.integers(1, 2000), max_size=30))
def test_looking_again_and_again_misses_none_and_repeats_none(
    expression: str, zone: str, start: datetime, pauses: list[int]
) -> None:
    schedule, seen, found = Schedule(expression, zone), start - MINUTE, []
    moments = [start + MINUTE * sum(pauses[: n + 1]) for n in range(len(pauses))]
    for moment in (item for item in moments if item < start + timedelta(days=DAYS)):
        new = slots_between(schedule, seen, moment, 10_000)
        found += new
        seen = new[-1] if new else seen
    last = found[-1] if found else start
    assert found == [slot for slot in by_every_minute(expression, zone, start) if slot <= last][: len(found)]


@pytest.mark.parametrize(
    ("expression", "zone", "now", "expected"),
    [
        ("30 2 * * *", "America/New_York", "2024-03-10T06:00Z", "2024-03-10T07:00Z"),  # leapt over: at the leap
        ("30 1 * * *", "America/New_York", "2024-11-03T05:00Z", "2024-11-03T05:30Z"),  # shown twice: the first time
        ("30 1 * * *", "America/New_York", "2024-11-03T05:30Z", "2024-11-04T06:30Z"),
        ("0 * * * *", "America/New_York", "2024-11-03T05:30Z", "2024-11-03T06:00Z"),  # every hour is every hour
        ("0 0 29 2 *", "UTC", "2025-01-01T00:00Z", "2028-02-29T00:00Z"),
    ],
)
def test_the_next_one(expression: str, zone: str, now: str, expected: str) -> None:
    found = next_slot(Schedule(expression, zone), datetime.fromisoformat(now))
    assert found == datetime.fromisoformat(expected)
