"""Charts of tasks without a ROC curve say what is so in rows whose truth is known, and every kind is drawn."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from engine.contracts import Scores, Target
from engine.evaluation.pictures import pictures_of
from engine.report.analyses import draw_chart

N = 3000
LEVELS = (0.1, 0.5, 0.9)


def charts(target, **models):
    return {chart.title: chart for chart in pictures_of(target, models)}


def drawn(found):
    for chart in found.values():
        for picture in draw_chart(chart):
            ET.fromstring(picture)
    return found


def test_a_regression_that_is_off_at_the_top_shows_it_there():
    draw = np.random.default_rng(0)
    prediction = draw.uniform(0, 10, N)
    y = prediction + draw.normal(size=N) + np.where(prediction > 9, 3.0, 0.0)
    found = drawn(charts(Target("regression"), challenger=Scores(y, prediction), baseline=Scores(y, y * 0 + 5)))
    points = found["Residuals by prediction"].series[0].points
    assert points[-1].value > 2
    assert max(abs(point.value) for point in points[:-1]) < 0.5
    assert len(found["Residuals by prediction"].series) == 2


def test_a_class_that_is_taken_for_another_shows_in_the_matrix():
    draw = np.random.default_rng(1)
    y = draw.integers(0, 3, N).astype(float)
    said = np.where((y == 2) & (draw.random(N) < 0.8), 1, y).astype(int)
    prediction = np.full((N, 3), 0.05)
    prediction[np.arange(N), said] = 0.9
    found = drawn(charts(Target("multiclass", ("a", "b", "c")), challenger=Scores(y, prediction)))
    row = {point.name: point.value for point in found["What each class is taken for"].series[2].points}
    assert row["b"] == pytest.approx(0.8, abs=0.05)
    assert sum(row.values()) == pytest.approx(1.0)
    recall = {point.name: point for point in found["Recall by class"].series[0].points}
    assert recall["a"].value == 1.0
    assert recall["c"].low < 0.2 < recall["c"].high + 0.05


def test_quantiles_that_are_too_narrow_show_their_coverage():
    draw = np.random.default_rng(2)
    y = draw.normal(size=N)
    wide = np.tile(np.array([-1.2816, 0.0, 1.2816]), (N, 1))
    found = drawn(charts(Target("quantile", quantiles=LEVELS), challenger=Scores(y, wide / 2, quantiles=LEVELS)))
    low, middle, high = (point.value for point in found["Coverage by level"].series[0].points)
    assert low > 0.2
    assert middle == pytest.approx(0.5, abs=0.05)
    assert high < 0.8


def test_a_ranking_shows_its_gain_by_places():
    draw = np.random.default_rng(3)
    y = draw.integers(0, 4, N).astype(float)
    group = np.repeat(np.arange(N // 10), 10)
    right, wrong = Scores(y, y, group=group), Scores(y, -y, group=group)
    found = drawn(charts(Target("ranking"), challenger=right, champion=wrong))["NDCG by places looked at"]
    assert {point.value for point in found.series[0].points} == {1.0}
    assert found.series[1].points[0].value < 0.5


def test_what_cannot_be_drawn_is_left_out():
    y = np.ones(N)
    assert pictures_of(Target("regression"), {"challenger": Scores(y, y * np.nan)}) == ()
    assert pictures_of(Target("binary"), {"challenger": Scores(y, y)}) == ()
    assert pictures_of(Target("ranking"), {"challenger": Scores(y, y)}) == ()
