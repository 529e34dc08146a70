"""How periods add up to a policy's quality and regret, and that the intervals cover what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.backtest.measuring import _outcome, _Period
from engine.contracts import Scores
from engine.evaluation.bootstrap import Resampling, draw


def period(rows: int, **values: float) -> _Period:
    """Make a period whose resamples are all the value itself; `m3` is the model of moment 3."""
    named = {int(name[1:]): value for name, value in values.items()}
    return _Period(rows, named, {name: np.full(50, value) for name, value in named.items()})


def outcome(periods: list[_Period], served: list[int], always: list[int], sign: float = 1.0) -> dict[str, Any]:
    """Add up at 95 percent."""
    return _outcome(periods, served, always, sign, 0.95)


def test_periods_count_by_their_rows() -> None:
    """A week with three times the rows counts three times."""
    found = outcome([period(100, m0=0.6), period(300, m0=0.8, m1=0.9)], [0, 0], [0, 1])
    assert found["quality"]["value"] == pytest.approx(0.25 * 0.6 + 0.75 * 0.8)
    assert found["regret"]["value"] == pytest.approx(0.75 * 0.1)
    assert [item["regret"]["value"] for item in found["periods"]] == pytest.approx([0.0, 0.1])


def test_regret_is_above_zero_for_what_is_worse_whichever_way_the_metric_points() -> None:
    """A loss that is larger, an area that is smaller."""
    periods = [period(100, m0=0.7, m1=0.5)]
    assert outcome(periods, [0], [1], sign=-1.0)["regret"]["value"] == pytest.approx(0.2)
    assert outcome(periods, [0], [1], sign=1.0)["regret"]["value"] == pytest.approx(-0.2)


def test_a_period_without_a_value_counts_for_nobody() -> None:
    """One class only, or no rows at all."""
    found = outcome([period(100, m0=0.6), _Period(50, {}, {})], [0, 0], [0, 0])
    assert found["quality"]["value"] == pytest.approx(0.6)
    assert found["periods"][1] == {"quality": {}, "regret": {}}


def test_the_interval_of_a_regret_that_is_zero_covers_zero_as_often_as_it_says() -> None:
    """Two models that are equally good, on many histories of four periods; three standard errors of leeway."""
    random, covered, histories = np.random.default_rng(7), 0, 80
    for index in range(histories):
        periods = []
        for week in range(4):
            truth = random.normal(size=120)
            y = (random.random(120) < 1 / (1 + np.exp(-truth))).astype(float)
            scores = {str(model): Scores(y, 1 / (1 + np.exp(-(truth + random.normal(size=120))))) for model in (0, 1)}
            drawn = draw(scores, ["brier"], Resampling(80, 0.9, index * 100 + week))
            values = {int(name): item.values["brier"] for name, item in drawn.items()}
            periods.append(_Period(120, values, {int(name): item.draws["brier"] for name, item in drawn.items()}))
        regret = _outcome(periods, [0] * 4, [1] * 4, -1.0, 0.9)["regret"]
        assert isinstance(regret, dict)
        covered += float(str(regret["low"])) <= 0 <= float(str(regret["high"]))
    assert abs(covered / histories - 0.9) < 3 * np.sqrt(0.9 * 0.1 / histories)
