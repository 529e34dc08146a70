"""`engine run -m`: one merged DAG, resumed after a kill, failed trials beside good ones, the best judged by unseen rows."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

UserProject = Any  # see conftest.py
KILLS = int(os.environ.get("PLUMBLINE_SWEEP_KILLS", "1"))
GRID = ("run", "-m", "pipeline=rides", "train.rounds=5,10", "train.params.num_leaves=7,15", "--json", "-q")


def events(project: UserProject, sweep: int) -> list[dict[str, Any]]:
    lines = (project.root / "runs" / f"sweep-{sweep}" / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def table(answer: Any) -> list[Any]:
    """What a sweep ends with, without times."""
    return [
        (trial["rank"], trial["number"], trial["params"], trial["state"], trial["tuned"]) for trial in answer["trials"]
    ]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, finished: tuple[UserProject, Any]) -> tuple[UserProject, Any]:
    """A project whose model was swept once, and that sweep's answer; tests only read it."""
    root = tmp_path_factory.mktemp("swept")
    shutil.copytree(finished[0].root / "conf", root / "conf")
    shutil.copytree(finished[0].root / "data", root / "data")
    project = finished[0].at(root)
    outcome = project.engine(*GRID, timeout=600)
    assert outcome.code in {0, 3, 4}, outcome.err
    return project, outcome.json


def test_every_combination_is_a_run_and_the_best_is_judged(swept: tuple[UserProject, Any]) -> None:
    project, answer = swept
    assert (answer["status"], len(answer["trials"]), answer["distinct"], answer["executed"]) == ("finished", 4, 11, 11)
    values = [trial["tuned"][0]["value"] for trial in answer["trials"]]
    assert values == sorted(values, reverse=True)
    best = project.record(answer["best_run"])
    assert best["verdict"] == answer["verdict"] is not None
    assert best["report"]
    assert Path(answer["report"]).is_file()
    others = [project.record(trial["run_id"]) for trial in answer["trials"][1:]]
    assert all(other["verdict"] is None and other["status"] == "succeeded" for other in others)
    assert {node["state"] for other in others for node in other["nodes"] if node["kind"] == "gate"} == {"skipped"}


def test_what_trials_share_is_executed_once_by_every_journal(swept: tuple[UserProject, Any]) -> None:
    project, answer = swept
    ran = Counter(item["node"] for item in events(project, 1) if item["event"] == "node" and item["state"] == "ran")
    assert set(ran.values()) == {1}
    assert sum(name.partition("#")[0] == "train" for name in ran) == 4
    states = [
        node["state"]
        for trial in answer["trials"]
        for node in project.record(trial["run_id"])["nodes"]
        if node["name"] in {"ingest.rides", "features", "split"}
    ]
    assert Counter(states) == {"ran": 3, "cached": 9}


def test_the_record_proves_that_no_gate_sees_what_tunes(swept: tuple[UserProject, Any]) -> None:
    project, answer = swept
    (tuned,) = project.record(answer["best_run"])["tuned"]
    assert (tuned["part"], tuned["shared_rows"]) == ("validation", 0)
    assert tuned["rows_digest"] != tuned["judged_digest"]
    evaluated = project.record(answer["best_run"])["metrics"][0]
    assert evaluated["n"] == tuned["judged_rows"] != tuned["rows"]


def test_a_failed_trial_stops_no_other(swept: tuple[UserProject, Any], tmp_path: Path) -> None:
    project = swept[0].at(shutil.copytree(swept[0].root, tmp_path / "p"))
    outcome = project.engine("run", "-m", "pipeline=rides", "train.params.min_data_in_leaf=20,90000", "--json", "-q")
    assert outcome.code == 5, outcome.err
    states = {trial["params"]["train.params.min_data_in_leaf"]: trial["state"] for trial in outcome.json["trials"]}
    assert states == {"20": "succeeded", "90000": "failed"}
    assert outcome.json["best"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train.params.num_leafs=7,15",), "num_leaves"),
        (("train.rounds=range(5,5)",), "no value"),
        (("train.rounds=interval(5,9)",), "hydra/sweeper=optuna"),
        (("train.rounds=5,6", "hydra/sweeper=optuna", "hydra/sweeper=basic"), "two sweepers"),
        (("train.rounds=5,6", "--only", "train"), "whole trials"),
        (("train.rounds=5,6", "sweep.metrics=[auc]"), "not a metric"),
    ],
)
def test_bad_input_is_worded(project: UserProject, arguments: tuple[str, ...], words: str) -> None:
    outcome = project.engine("run", "-m", "pipeline=rides", *arguments)
    assert outcome.code == 2, outcome.err
    assert words in outcome.err
    assert not (project.root / "runs").exists()


def test_a_killed_sweep_repeats_nothing_and_ends_with_the_same_table(
    swept: tuple[UserProject, Any], tmp_path: Path
) -> None:
    chance = random.Random(3)
    killed = 0
    for attempt in range(20 * KILLS):
        project = swept[0].at(tmp_path / str(attempt))
        for folder in ("conf", "data"):
            shutil.copytree(swept[0].root / folder, project.root / folder)
        process = project.start(*GRID)
        journal = project.root / "runs" / "sweep-1" / "events.jsonl"
        wanted = chance.randrange(1, 11)
        while process.poll() is None and _ended(journal) < wanted:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.1))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            continue
        killed += 1
        answer = project.engine(*GRID, timeout=600).json
        assert table(answer) == table(swept[1])
        assert answer["sweep"] == 1, "the same sweep goes on"
        assert len(list((project.root / "runs").glob("[0-9]*"))) == 4, "no trial has a second run"
        done = (item for item in events(project, 1) if item["event"] == "node" and item["state"] == "ran")
        # By key: when the first trial has ended, what goes on calls the nodes of the next one `train` and `tune`.
        assert max(Counter(item["result"]["key"] for item in done).values()) == 1, "no finished node ran again"
        if killed == KILLS:
            return
    raise AssertionError("no kill hit a running sweep")


def _ended(journal: Path) -> int:
    return journal.read_text().count('"state":"ran"') if journal.exists() else 0
