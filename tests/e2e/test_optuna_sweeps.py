"""Optimising sweeps: seeds repeat them, a study keeps to its pipeline, losing trials are stopped, objectives trade off."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

UserProject = Any  # see conftest.py
KILLS = int(os.environ.get("PLUMBLINE_SWEEP_KILLS", "1"))
SEARCH = (
    "run",
    "-m",
    "pipeline=rides",
    "hydra/sweeper=optuna",
    "--json",
    "-q",
    "train.params.num_leaves=int(interval(4,40))",
)


def values(answer: Any) -> list[Any]:
    trials = sorted(answer["trials"], key=lambda trial: trial["number"])
    return [(trial["params"], trial["state"], [metric["value"] for metric in trial["tuned"]]) for trial in trials]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, finished: tuple[UserProject, Any]) -> UserProject:
    """A project whose shared nodes are computed."""
    root = tmp_path_factory.mktemp("search") / "p"
    return finished[0].at(shutil.copytree(finished[0].root, root))


def test_a_seed_repeats_a_search_and_another_does_not(project: UserProject) -> None:
    search = (*SEARCH, "hydra.sweeper.n_trials=4", "train.rounds=5", "hydra.sweeper.sampler=random")
    first, again, other = (
        project.engine(*search, f"hydra.sweeper.seed={seed}", timeout=600).json for seed in (1, 1, 2)
    )
    assert values(first) == values(again)
    assert values(first) != values(other)
    assert first["study"] != again["study"]


def test_several_objectives_give_the_trials_that_none_beats(project: UserProject) -> None:
    search = (*SEARCH, "hydra.sweeper.n_trials=4", "train.rounds=5,20", "sweep.metrics=[roc_auc,model_bytes]",
              "hydra.sweeper.sampler=nsgaii")  # fmt: skip
    answer = project.engine(*search, timeout=600).json
    assert answer["objectives"] == ["roc_auc", "model_bytes"]
    assert 1 <= len(answer["pareto"]) <= 4
    smallest = min(answer["trials"], key=lambda trial: trial["tuned"][1]["value"])
    assert smallest["number"] in answer["pareto"]


def test_a_losing_trial_is_stopped(project: UserProject) -> None:
    search = (*SEARCH, "hydra.sweeper.n_trials=1", "train.rounds=90000", "train.early_stopping=0", "hydra.sweeper.pruner=threshold",
              "hydra.sweeper.pruner_options={lower: -0.0001}")  # fmt: skip
    outcome = project.engine(*search, timeout=600)
    (trial,) = outcome.json["trials"]
    assert outcome.code == 4, outcome.err
    assert trial["state"] == "pruned"
    assert "pruned at round" in trial["error"]
    assert project.record(trial["run_id"])["status"] == "pruned"


@pytest.mark.parametrize("pruner", ["successive_halving", "hyperband"])
def test_trials_that_fall_behind_are_pruned_however_fast_they_are(project: UserProject, pruner: str) -> None:
    """A training of a tenth of a second has ended before it can be stopped: what was decided counts all the same."""
    search = (*SEARCH, "train.params.learning_rate=choice(0.3,0.0001)", "hydra.sweeper.n_trials=8", "train.rounds=64",
              "train.early_stopping=0", "hydra.sweeper.n_jobs=1", "hydra.sweeper.sampler=random", "hydra.sweeper.seed=4",
              f"hydra.sweeper.pruner={pruner}",
              "hydra.sweeper.pruner_options={min_resource: 2}")  # fmt: skip
    answer = project.engine(*search, f"train.seed={len(pruner)}", timeout=600).json
    states = {trial["number"]: trial["state"] for trial in answer["trials"]}
    assert set(states.values()) == {"pruned", "succeeded"}, states
    slow = [trial for trial in answer["trials"] if trial["state"] == "pruned"]
    assert all("pruned at round" in trial["error"] and not trial["tuned"] and trial["intermediate"] for trial in slow)
    assert "0.0001" in {trial["params"]["train.params.learning_rate"] for trial in slow}
    recorded = dict(trials_of(project.root / ".plumbline" / "studies.db", answer["study"]))
    assert recorded == {
        number: {"pruned": "PRUNED", "succeeded": "COMPLETE"}[state] for number, state in states.items()
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("hydra.sweeper.sampler=best",), "allowed: tpe"),
        (("hydra.sweeper.sampler_options={n_start: 1}",), "n_startup_trials"),
        (("hydra.sweeper.pruner=median", "sweep.metrics=[roc_auc,log_loss]"), "one objective"),
        (("hydra.sweeper.storage=nowhere://x",), "hydra.sweeper.storage"),
    ],
)
def test_bad_input_is_worded(project: UserProject, arguments: tuple[str, ...], words: str) -> None:
    outcome = project.engine(*SEARCH, *arguments)
    assert outcome.code in {2, 7}, outcome.err
    assert words in outcome.err


def test_a_study_keeps_to_its_pipeline_and_space(project: UserProject) -> None:
    named = ("hydra.sweeper.n_trials=1", "hydra.sweeper.study_name=mine")
    assert project.engine(*SEARCH, *named, "train.rounds=5", timeout=600).code in {0, 3, 4}
    project.write("conf/pipeline/other.yaml", "# @package _global_\ndefaults: [rides, _self_]\nname: other\n")
    other = project.engine(*[word.replace("pipeline=rides", "pipeline=other") for word in SEARCH], *named)
    assert other.code == 2
    assert "another pipeline: rides" in other.err
    wider = project.engine(*SEARCH[:-1], "train.params.num_leaves=int(interval(4,80))", *named)
    assert "another space" in wider.err


def trials_of(studies: Path, study: str) -> list[tuple[int, str]]:
    select = "SELECT number, state FROM trials JOIN studies USING (study_id) WHERE study_name = ? ORDER BY number"
    with sqlite3.connect(studies) as database:
        return database.execute(select, (study,)).fetchall()


def test_a_killed_search_goes_on_with_the_same_study(project: UserProject, tmp_path: Path) -> None:
    """Nothing is lost, no trial is there twice, and the table is that of a search that nobody killed."""
    search = (*SEARCH, "train.params.learning_rate=tag(log,interval(0.05,0.4))", "hydra.sweeper.n_trials=6", "train.rounds=8",
              "hydra.sweeper.n_jobs=2", "hydra.sweeper.sampler_options={n_startup_trials: 2}")  # fmt: skip
    fresh = shutil.copytree(project.root, tmp_path / "fresh", ignore=shutil.ignore_patterns("studies.db", "sweep-*"))
    whole = project.at(shutil.copytree(fresh, tmp_path / "whole")).engine(*search, timeout=600).json
    assert len(whole["trials"]) == 6
    chance, killed = random.Random(8), 0
    for attempt in range(20 * KILLS):
        torn = project.at(shutil.copytree(fresh, tmp_path / str(attempt)))
        process = torn.start(*search)
        wanted = chance.randrange(0, 12)
        while process.poll() is None and nodes_left(torn, whole["sweep"]) < wanted:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.2))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            continue
        killed += 1
        answer = torn.engine(*search, timeout=600).json
        assert (answer["sweep"], answer["study"]) == (whole["sweep"], whole["study"])
        assert values(answer) == values(whole)
        assert trials_of(torn.root / ".plumbline" / "studies.db", answer["study"]) == [
            (number, "COMPLETE") for number in range(6)
        ]
        assert Counter(path.name.isdigit() for path in (torn.root / "runs").iterdir()) == Counter(
            path.name.isdigit() for path in (tmp_path / "whole" / "runs").iterdir()
        )
        if killed == KILLS:
            return
    raise AssertionError("no kill hit a running search")


def nodes_left(project: UserProject, sweep: int) -> int:
    journal = project.root / "runs" / f"sweep-{sweep}" / "events.jsonl"
    return journal.read_text().count('"state":"ran"') if journal.exists() else 0
