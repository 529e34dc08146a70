"""The whole story, unattended: weeks arrive, a clock moves, `engine tick` does the rest.

Four normal weeks and a first model; a poisoned week; a change of what the label follows from; a challenger that is not good
enough, one that is and proves itself as a shadow; then the old times come back, and the promotion is taken back.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.loop.launching import launch_here
from engine.loop.tick import Around, exit_code_of, tick
from engine.project import Project

from .conftest import UserProject

START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
WEEK = timedelta(days=7)
A_WEEK = 700
PIPELINE = """\
# @package _global_
defaults:
  - /split: time_forward
  - /train: lightgbm_binary
  - _self_

name: rides
owner: rides team
sources:
  rides:
    kind: csv
    path: data/*.csv
    columns: {ride_id: str, driver: str, distance: f64, load: f64, at: timestamp, late: i64}
    key: [driver]
    time: at
    id: ride_id
    available: {delay: 1h}
    decimals: {distance: 2, load: 2}
    expect: [{column: distance, minimum: 0, maximum: 1000}]
spine: {source: rides, request: {driver: str, distance: f64, load: f64}}
features:
  km: {expr: distance}
  weight: {expr: load}
  driver_late_7d: {from: rides, of: late, agg: mean, window: 7d}
label: {from: rides, expr: late, maturity: 6h}
split: {kind: rolling_origin, horizon: 7d, validation: 2d, window: 7d}
train: {rounds: 15, early_stopping: 0, params: {min_data_in_leaf: 20}, exclude: [weight, driver_late_7d]}
baseline: {kind: majority}
evaluate: {resamples: 100}
gates:
  test_size: {kind: min_rows, rows: 100, positives: 20, negatives: 20}
  baseline: {kind: beats_baseline}
  champion: {kind: not_worse_than_champion, margin: 0.02}
watch: {chunk: {by: week}}
monitors:
  drift: {kind: drift, columns: [weight]}
  performance: {kind: performance, severity: critical}
notifiers:
  file: {kind: log, path: ALERTS}
rollout: {entity: driver, steps: [{share: 0, hold: 1d, min_labels: 200}], margin: 0.01, breach: 0.01}
triggers:
  moved: {kind: drift, enter: 0.25, exit: 0.1}
  worse: {kind: performance, metric: roc_auc, minimum: 0.65, margin: 0.02}
retrain: {observe: 0s, cooldown: 0s, overrides: []}
"""


def week(number: int, *, reverse: bool = False, poison: bool = False) -> str:
    """A week of rides. Long ones are late; where that is reversed, short ones are, and cars are fuller."""
    draw = random.Random(number)
    lines = ["ride_id,driver,distance,load,at,late"]
    for index in range(A_WEEK):
        at = START + number * WEEK + index * WEEK / A_WEEK
        distance, load = draw.uniform(0, 40), draw.gauss(3.0 if reverse else 2.0, 0.6)
        chance = 1 / (1 + 2.718 ** (-(distance - 20) / (-4 if reverse else 4)))
        shown = -distance if poison and index % 3 == 0 else distance
        lines.append(
            f"w{number}-{index},d{draw.randrange(200)},{shown:.2f},{load:.2f},{at:%Y-%m-%dT%H:%M:%SZ},{int(draw.random() < chance)}"
        )
    return "\n".join(lines) + "\n"


@dataclass
class World:
    """A project, and a clock that somebody else moves."""

    project: UserProject
    actions: list[tuple[int, str]] = field(default_factory=list)

    def arrives(self, number: int, **changes: Any) -> None:
        self.project.write(f"data/week-{number:02d}.csv", week(number, **changes))

    def ticks(self, weeks: int) -> list[str]:
        """Tick on the Monday after so many weeks, until nothing is done any more; give what was done."""
        project, done = Project(self.project.root), []
        now = START + weeks * WEEK + timedelta(hours=12)
        for _ in range(8):
            around = Around(now=now, launch=launch_here(project), simulated=True)
            report = tick(project, around)
            assert exit_code_of(report) == 0, report
            done.append(report.pipelines[0].action)
            if not report.launched and done[-1] != "rollback":
                break
        return done

    def json(self, *arguments: str) -> Any:
        return self.project.engine(*arguments, "--json").json

    def champion(self) -> int | None:
        held = [item["version"]["version"] for item in self.json("models", "list") if "champion" in item["aliases"]]
        return held[0] if held else None


@pytest.fixture
def world(tmp_path: Path) -> World:
    project = UserProject(tmp_path)
    project.write("conf/pipeline/rides.yaml", PIPELINE.replace("ALERTS", str(tmp_path / "alerts.jsonl")))
    return World(project)


def test_the_whole_story(world: World) -> None:
    for number in range(4):
        world.arrives(number)
    world.project.engine("triggers", "fire", "rides", "--reason", "the first model")
    assert world.ticks(4) == ["observe", "launch", "nothing"]
    assert world.champion() == 1

    world.arrives(4)  # a week like the others
    assert world.ticks(5) == ["observe", "nothing"]

    world.arrives(5, poison=True)  # is quarantined and diagnosed; nothing is trained, the champion stays
    assert world.ticks(6) == ["observe", "diagnose", "nothing"]
    (alert,) = world.json("monitor", "alerts", "ls")
    assert "new data of rides is quarantined: distance >= 0" in alert["title"]
    assert list(world.project.root.glob("runs/*/diagnosis-rides.html"))
    assert world.champion() == 1

    world.arrives(5)  # mended at its source; then short rides are the late ones
    world.arrives(6, reverse=True)
    assert world.ticks(7) == ["observe", "launch", "nothing"]  # what is learned from is still old: refused
    assert world.champion() == 1
    world.arrives(7, reverse=True)
    assert world.ticks(8) == ["observe", "launch", "nothing"]  # passes its gates: a shadow from now on
    assert world.champion() == 1
    assert world.json("rollout", "show", "rides")["status"] == "running"
    world.arrives(8, reverse=True)
    assert world.ticks(9) == ["observe", "nothing"]
    assert world.champion() == 3

    world.arrives(9)  # the old times are back
    assert world.ticks(10) == ["observe", "rollback", "nothing"]
    assert world.champion() == 1
    world.arrives(10)
    assert world.ticks(11) == ["observe", "nothing"]
    check_what_is_kept(world)


def check_what_is_kept(world: World) -> None:
    """The ledgers tell it all, in order, with reasons; and how long everything took."""
    moves = [(item["action"], item["to_version"]) for item in world.json("models", "history", "rides")
             if item["alias"] and item["action"] != "rollout"]  # fmt: skip
    assert moves == [("promote", 1), ("reject", 2), ("promote", 3), ("rollback", 1)]
    assert world.project.engine("models", "verify", "rides").code == 0
    assert world.project.engine("triggers", "verify").code == 0
    again = world.project.engine("models", "promote", "rides", "3", "--reason", "once more")
    assert (again.code, "rolled back" in again.err) == (2, True)
    told = world.project.engine("triggers", "explain", "rides", "--last", "100").out
    for words in (
        "fires  moved: ",
        "fires  worse: ",
        "verdict reject",
        "rollout: promoted",
        "guard: alarm",
        "rides:3 goes back",
    ):
        assert words in told, words
    report = world.json("triggers", "report", "rides")
    assert [report[name] for name in ("trainings", "refused", "promotions", "rollbacks", "quarantines")] == [
        3,
        1,
        2,
        1,
        1,
    ]
    days = {item["what"]: (item["seconds_to_detect"], item["seconds_to_recover"]) for item in report["incidents"]}
    day = 86_400
    assert days == {
        "quarantine": (None, 7 * day), "moved": (7.5 * day, 14 * day), "worse": (7.5 * day, 14 * day), "promotion": (7.5 * day, 0),
    }  # fmt: skip
    events = [(item["event"], item["alert"]["monitor"]) for item in map(json.loads, open_alerts(world))]
    assert {("opened", name) for name in ("quarantine", "drift", "performance", "rollback")} < set(events)
    assert ("resolved", "quarantine") in events


def open_alerts(world: World) -> list[str]:
    return (world.project.root / "alerts.jsonl").read_text().splitlines()
