"""Fairness gates: gaps that are there are found, chance is not, and few rows cannot tell."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.components import load_catalogue
from engine.contracts import Evidence, Scores

CATALOGUE = load_catalogue(Path(__file__).resolve().parents[2], ("gates_standard",))


def decide(rates, measure="demographic_parity", *, rows=2000, cluster=False, seed=0, task="binary", **params):
    """Groups whose decisions are positive at these rates; labels are independent of everything."""
    draw = np.random.default_rng(seed)
    group = np.repeat([f"g{index}" for index in range(len(rates))], rows).astype(object)
    decided = np.concatenate([draw.random(rows) < rate for rate in rates])
    y = (draw.random(len(decided)) < 0.5) * 1.0
    scores = Scores(y, np.where(decided, 0.8, 0.2), np.arange(len(y)) // 10 if cluster else None)
    component = CATALOGUE.get("gate", "fairness")
    gate = component.build(
        msgspec.convert({"group": "who", "measure": measure, "max_gap": 0.1, **params}, component.params)
    )
    evidence = Evidence(
        task=task, challenger=scores, baseline=None, champion=None, champion_name=None, slices={}, validation={}, metrics={},
        seed=0, columns={"who": group},
    )  # fmt: skip
    return gate.decide("fair", evidence)


@pytest.mark.parametrize(
    "measure", ["demographic_parity", "equal_opportunity", "false_positive_rate", "equalized_odds"]
)
@pytest.mark.parametrize(
    ("rates", "status"), [((0.5, 0.51), "pass"), ((0.3, 0.6), "fail"), ((0.4, 0.51), "inconclusive")]
)
def test_gaps(measure, rates, status):
    result = decide(rates, measure)
    assert result.status == status, result
    assert "n = " in result.observed


def test_equal_decisions_of_few_rows_show_nothing():
    """All decisions alike: the interval still has a width."""
    result = decide((1.0, 1.0), rows=20, min_rows=10)
    assert result.status == "inconclusive"
    assert result.evidence["high"] > 0.1


def test_small_groups_are_named_and_one_group_alone_cannot_be_compared():
    result = decide((0.5, 0.5), rows=50)
    assert (result.status, result.evidence["too_small"]) == ("inconclusive", ["g0 (50 rows)", "g1 (50 rows)"])


def test_ratio_and_numbers():
    assert decide((0.5, 0.48), max_gap=None, min_ratio=0.8).status == "pass"
    assert decide((0.5, 0.2), max_gap=None, min_ratio=0.8).status == "fail"
    assert decide((0.5, 0.0), max_gap=None, min_ratio=0.8).status != "pass"
    assert decide((0.5, 0.5), "calibration").status == "pass"
    assert decide((0.2, 0.8), "calibration").status == "fail"
    assert decide((0.2, 0.8), "mean_prediction", task="regression").status == "fail"
    assert decide((0.2, 0.8), "accuracy", task="regression").status == "inconclusive"


def test_clusters_widen_the_interval():
    alone, together = decide((0.5, 0.5)), decide((0.5, 0.5), cluster=True)
    assert together.status == alone.status == "pass"
    assert together.evidence["low"] != alone.evidence["low"]


def test_groups_that_are_alike_are_seldom_said_to_differ():
    """Ten groups, no gap, a requirement at which chance alone would fail one of 45 pairs now and then."""
    failed = sum(decide((0.5,) * 6, rows=150, seed=seed, max_gap=0.0).status == "fail" for seed in range(100))
    assert failed <= 10  # 5 % of 100, and three standard errors
