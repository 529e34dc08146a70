"""`engine tick` from outside: new data makes a run, a killed run is adopted, mistakes in one pipeline stop no other."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from engine.stores.disk import is_abandoned

UserProject = Any  # see conftest.py
LOOP = """
triggers:
  nightly: {kind: cron, schedule: "0 6 * * *", timezone: Europe/Berlin}
  data: {kind: data_commit}
retrain: {observe: 0s, cooldown: 0s}
"""


@pytest.fixture
def looped(project: UserProject) -> UserProject:
    pipeline = project.root / "conf/pipeline/rides.yaml"
    project.write("conf/pipeline/rides.yaml", pipeline.read_text() + LOOP)
    return project


def more_rides(project: UserProject, tag: str) -> None:
    path = project.root / "data/rides.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, *(tag + line for line in lines[-50:])]) + "\n")


def wait_until_idle(project: UserProject) -> None:
    deadline = time.monotonic() + 120
    while project.engine("triggers", "requests", "--json").json:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_new_data_makes_one_run_and_the_ledger_says_why(looped: UserProject) -> None:
    first = looped.engine("tick", "--wait", "--json")
    assert (first.code, first.json["pipelines"][0]["action"]) == (0, "observe")
    assert looped.engine("tick", "--wait", "--json").json["launched"] == []
    more_rides(looped, "x")
    dry = looped.engine("tick", "--dry-run", "--json").json
    assert dry["pipelines"][0]["action"] == "observe"
    answer = looped.engine("tick", "--wait", "--json").json
    assert answer["pipelines"][0]["action"] == "launch"
    assert {check["name"]: check["passed"] for check in answer["pipelines"][0]["checks"]}["budget"]
    assert [model["version"]["version"] for model in looped.engine("models", "list", "--json").json] == [1]
    told = looped.engine("triggers", "explain", "rides").out
    assert "fires  data: new data: rides" in told
    assert "finish: train done: run 3, verdict promote" in told
    assert looped.engine("triggers", "verify").code == 0


def test_a_run_that_was_killed_is_adopted_and_not_doubled(looped: UserProject) -> None:
    looped.engine("tick", "--wait")
    looped.engine("triggers", "fire", "rides", "--reason", "to see")
    assert len(looped.engine("tick", "--json").json["launched"]) == 1
    deadline, held = time.monotonic() + 60, None
    while held is None and time.monotonic() < deadline:
        running = [item for item in looped.engine("triggers", "requests", "--json").json if item["state"] == "running"]
        held = running[0] if running else None
    assert held is not None
    os.kill(int(held["owner"].split("-")[0]), signal.SIGKILL)
    while not is_abandoned(Path(held["owner"])):
        time.sleep(0.01)
    adopted = looped.engine("tick", "--json").json
    assert adopted["adopted"] == [held["key"]]
    wait_until_idle(looped)
    assert [model["version"]["version"] for model in looped.engine("models", "list", "--json").json] == [1]
    finished = [entry for entry in looped.engine("triggers", "explain", "rides", "--json").json
                if entry["decision"]["action"] == "finish" and "train" in entry["decision"]["why"]]  # fmt: skip
    assert len(finished) == 1


def test_one_wrong_pipeline_stops_no_other(looped: UserProject) -> None:
    looped.write(
        "conf/pipeline/broken.yaml",
        "# @package _global_\ndefaults: [rides, _self_]\nname: broken\ntriggers: {x: {kind: crn}}\n",
    )
    answer = looped.engine("tick", "--dry-run", "--json")
    assert answer.code == 2
    told = {item["pipeline"]: item for item in answer.json["pipelines"]}
    assert told["rides"]["action"] == "observe"
    assert "did you mean `cron`?" in told["broken"]["error"]


def test_paused_is_paused(looped: UserProject) -> None:
    looped.engine("tick", "--wait")
    assert looped.engine("triggers", "pause", "rides", "--reason", "holiday").code == 0
    looped.engine("triggers", "fire", "rides", "--reason", "nevertheless")
    stopped = looped.engine("tick", "--json").json["pipelines"][0]
    assert (stopped["action"], stopped["why"]) == ("wait", "pause: paused: holiday")
    assert looped.engine("triggers", "resume", "rides").code == 0
    assert looped.engine("tick", "--dry-run", "--json").json["pipelines"][0]["action"] == "launch"
    assert looped.engine("triggers", "pause", "rides", "nightl", "--reason", "x").code == 2


def test_what_is_printed_for_schedulers(looped: UserProject) -> None:
    line = looped.engine("tick", "--install", "cron", "--every", "1").out
    assert line.startswith("* * * * * ")
    for target in ("systemd", "kubernetes", "github"):
        assert "tick" in looped.engine("tick", "--install", target).out
    assert looped.engine("tick", "--install", "cron", "--every", "90").code == 2
    assert looped.engine("tick", "--at", "2024-02-01").code == 2


def test_records_keep_their_published_schema(looped: UserProject) -> None:
    from jsonschema import Draft202012Validator

    schema = json.loads((Path(__file__).parents[2] / "schemas/records/tick-report.json").read_bytes())
    Draft202012Validator(schema).validate(looped.engine("tick", "--dry-run", "--json").json)
