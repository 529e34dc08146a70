"""A year of ticks at random moments, over every change of the clock, with leaps back and days without: exactly the slots of the rule.

The slots are calculated independently (`by_every_minute`), and what missed ones do is written again here, as plain lists.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.clock import isoformat
from engine.loop.locating import pipeline_of
from engine.loop.tick import Around, tick
from engine.loop.work import Outcome, do_request
from engine.loop_records import RunRequest
from engine.project import Project
from tests.e2e.conftest import PIPELINE
from tests.loop.test_slots import by_every_minute

BEGIN, DAYS, MINUTE, HOUR = datetime(2024, 1, 1, tzinfo=UTC), 366, timedelta(minutes=1), timedelta(hours=1)
CLOCKS = {  # the schedule, its zone, what happens to missed slots
    "nightly": ("30 2 * * *", "America/New_York", "misfire: all, most: 3"),
    "often": ("*/20 1-3 * * *", "Europe/Berlin", "misfire: coalesce"),
    "island": ("*/30 * * * *", "Australia/Lord_Howe", "misfire: coalesce"),
    "strict": ("15 */6 * * 1-5", "America/New_York", "misfire: skip, grace: 2h"),
}
CHANGES = tuple(datetime(2024, *day, tzinfo=UTC) for day in ((3, 10), (3, 31), (4, 6), (10, 5), (10, 27), (11, 3)))


def moments(draw: random.Random) -> list[datetime]:
    """Ticks of a year: some every now and then, many around the changes of clocks, and some after the clock was set back."""
    times = {BEGIN + MINUTE * draw.randrange(DAYS * 24 * 60) for _ in range(60)}
    for change in CHANGES:
        times |= {change + MINUTE * draw.randrange(-12 * 60, 36 * 60) for _ in range(18)}
    found = [BEGIN]
    for moment in sorted(times):
        found.append(moment)
        if draw.random() < 0.2:  # the clock is set back by up to two hours, and goes on from there
            found += [moment - draw.randrange(1, 120) * MINUTE, moment - MINUTE, moment]
    return found


class Expected:
    """What a trigger has to fire for, from the list of all its slots."""

    def __init__(self, slots: list[datetime], misfire: str) -> None:
        self._slots = slots
        self._seen = BEGIN
        self._misfire = misfire

    def at(self, now: datetime) -> datetime | None:
        new = [slot for slot in self._slots if self._seen < slot <= now]
        if not new:
            return None
        if "all" in self._misfire:
            self._seen = new[-3:][0]
            return self._seen
        self._seen = new[-1]
        return None if "skip" in self._misfire and now - new[-1] > 2 * HOUR else new[-1]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "conf/pipeline"
    folder.mkdir(parents=True)
    policy = "retrain: {cooldown: 0s, budget: {runs: null}}\n"
    (folder / "rides.yaml").write_text(PIPELINE)
    for name, (schedule, zone, misfire) in CLOCKS.items():
        trigger = f'triggers: {{clock: {{kind: cron, schedule: "{schedule}", timezone: {zone}, {misfire}}}}}\n'
        head = f"# @package _global_\ndefaults: [rides, _self_]\nname: {name}\n"
        (folder / f"{name}.yaml").write_text(head + trigger + policy)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rides.csv").write_text("ride_id,driver,distance,hour,at,late\n")
    return Project(tmp_path)


def succeed(project: Project) -> Callable[[str], None]:
    _, state = pipeline_of(project, "nightly")
    return lambda key: do_request(project, state, key, lambda *_: Outcome(None, 0, None, {}, (), None)) and None


def test_a_year_of_ticks_fires_exactly_for_the_slots_of_the_rule(project: Project) -> None:
    rules = {
        name: Expected(by_every_minute(schedule, zone, BEGIN, DAYS), misfire)
        for name, (schedule, zone, misfire) in CLOCKS.items()
    }
    finish, fired = succeed(project), 0
    for now in moments(random.Random(20240310)):
        launched: list[RunRequest] = []
        tick(project, Around(now=now, launch=lambda request, _, kept=launched: kept.append(request)))
        given = {request.pipeline: request.reasons["clock"] for request in launched}
        due = {name: rule.at(now) for name, rule in rules.items()}
        wanted = {name: f"the slot {isoformat(slot)} came" for name, slot in due.items() if slot is not None}
        assert given == wanted, now
        for request in launched:
            finish(request.key)
        fired += len(launched)
    assert fired > 300
