"""Lists of runs: expressions, order, names that no run has, runs that were killed; ten thousand are benchmarks/experiments.py."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import engine.experiments.facts
from engine.errors import UsageError
from engine.experiments.listing import Listing, Wanted
from engine.keys import digest
from engine.locations import Stores
from engine.project import Project
from engine.records import Metric, RunRecord, TunedMetric
from engine.spec import SettingsSpec


def record(run: int, auc: float | None, leaves: int, **more: object) -> RunRecord:
    return RunRecord(
        run_id=str(run), pipeline="p", started_at=f"2026-01-01T00:00:{run:02d}Z", config_digest=digest(run),
        plan_digest=digest(run), overrides=(f"train.params.num_leaves={leaves}",),
        metrics=() if auc is None else (Metric(name="roc_auc", value=auc),), **{"status": "succeeded", **more},
    )  # fmt: skip


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    """Twelve runs; the tenth failed, the eleventh was killed, the twelfth is a trial."""
    stores = Stores(Project(tmp_path), SettingsSpec())
    made = [record(run, run % 5 / 10 + 0.5, 15 if run % 2 else 31) for run in range(1, 10)]
    tuned = TunedMetric(name="log_loss", value=0.4, part="validation", rows=9, rows_digest="a", judged_rows=9, judged_digest="b",
                        shared_rows=0, higher_is_better=False)  # fmt: skip
    made += [record(10, None, 63, status="failed"), record(11, None, 63, status="running")]
    made += [record(12, None, 127, sweep=3, trial=0, tuned=(tuned,))]
    for item in made:
        leaves = int(item.overrides[0].partition("=")[2])
        config = {"name": "p", "train": {"rounds": 20, "params": {"num_leaves": leaves}}, "gates": {"a": [{"min": 3}]}}
        (tmp_path / "runs" / item.run_id).mkdir(parents=True)
        stores.index.record_run(item, str(tmp_path / "runs" / item.run_id), config)
    stores.index.set_tag("4", "team", "risk")
    return stores


def found(stores: Stores, where: str | None = None, sort: str | None = None, limit: int | None = None) -> list[int]:
    return [int(run.summary.run_id) for run in Listing(stores).find(Wanted(where, sort, limit))]


@pytest.mark.parametrize(
    ("where", "runs"),
    [
        ("metrics.roc_auc > 0.8 and train.params.num_leaves = 15", [9]),
        ("roc_auc >= 0.8 and not run = 9", [8, 4, 3]),
        ("train.params.num_leaves in (63, 127) and status != failed", [12, 11]),
        ("params.train.params.num_leaves = 127", [12]),
        ("status = interrupted", [11]),
        ("status = running", []),
        ("error like '%without a word%'", [11]),
        ("tags.team = risk", [4]),
        ("tags.other = risk", []),
        ("tuned.log_loss < 0.5", [12]),
        ("log_loss < 0.5", [12]),
        ("sweep = 3 and trial = 0", [12]),
        ("gates.a.0.min = 3 and run < 3", [2, 1]),
        ("name = p and run <= 2", [2, 1]),
        ("promoted = true", []),
        ("verdict = null and run > 10", [12, 11]),
    ],
)
def test_an_expression_finds_runs_by_any_fact(stores: Stores, where: str, runs: list[int]) -> None:
    assert found(stores, where) == runs


def test_runs_without_a_value_come_last_whichever_way_it_is_sorted(stores: Stores) -> None:
    best = [9, 4, 8, 3, 7, 2, 6, 1, 5]
    assert found(stores, sort="metrics.roc_auc desc") == [*best, 12, 11, 10]
    assert found(stores, sort="metrics.roc_auc")[:9] == [5, 6, 1, 7, 2, 8, 3, 9, 4]
    assert found(stores, sort="-roc_auc", limit=3) == best[:3]
    assert found(stores, sort="train.params.num_leaves", limit=2) == [9, 7]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("metrics.roc_au", "metrics.roc_auc"),
        ("train.parms.num_leaves", "train.params.num_leaves"),
        ("statsu", "status"),
    ],
)
def test_a_name_that_no_run_has_is_an_error_with_the_nearest(stores: Stores, name: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"no run has `{name}`") as caught:
        found(stores, f"{name} > 0.7")
    assert f"`{near}`" in str(caught.value.hint)
    with pytest.raises(UsageError, match=f"no run has `{name}`"):
        found(stores, sort=name)


def test_a_list_says_what_became_of_a_killed_run(stores: Stores) -> None:
    listed = {run.summary.run_id: run for run in Listing(stores).find(Wanted(limit=None))}
    assert listed["11"].summary.status == listed["11"].facts("status") == "interrupted"
    assert listed["12"].facts("train.params.num_leaves") == 127
    assert listed["4"].facts("tags.team") == "risk"


def test_examples() -> None:
    tried = doctest.testmod(engine.experiments.facts)
    assert (tried.attempted, tried.failed) == (2, 0)
