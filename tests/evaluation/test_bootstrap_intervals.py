"""Intervals: deterministic, paired, clustered, of the promised coverage, and absent where they would mislead."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contracts import Scores
from engine.evaluation.bootstrap import Resampling, bootstrap_intervals, draw, paired_bootstrap
from engine.evaluation.calibration import calibration_slope


def binary_scores(n=600, seed=0, separation=1.0):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3) * 1.0
    return Scores(y, 1 / (1 + np.exp(-(rng.standard_normal(n) + separation * y - 1))))


def test_same_seed_same_numbers_and_other_seed_others():
    scores, names = binary_scores(), ["roc_auc", "brier", "calibration_error"]
    first = bootstrap_intervals(scores, names, Resampling(100, 0.9, 7))
    assert first == bootstrap_intervals(scores, names, Resampling(100, 0.9, 7))
    assert first != bootstrap_intervals(scores, names, Resampling(100, 0.9, 8))
    alone = bootstrap_intervals(scores, ["brier"], Resampling(100, 0.9, 7))
    assert alone["brier"] == first["brier"]  # neither the other metrics nor their order matter
    for metric in first.values():
        assert metric.low < metric.value < metric.high
        assert (metric.level, metric.n) == (0.9, 600)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_coverage_of_auc_interval(level):
    """200 samples with a known AUC: the share covered is within 4 standard errors of the level."""
    separation, trials, covered = 1.0, 200, 0
    truth = NormalDist().cdf(separation / np.sqrt(2))
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        y = (rng.random(300) < 0.4) * 1.0
        scores = Scores(y, rng.standard_normal(300) + separation * y)
        metric = bootstrap_intervals(scores, ["roc_auc"], Resampling(150, level, trial))["roc_auc"]
        covered += metric.low <= truth <= metric.high
    error = np.sqrt(level * (1 - level) / trials)
    assert abs(covered / trials - level) < 4 * error


def test_width_agrees_with_theory():
    y = np.random.default_rng(0).standard_normal(2000)
    metric = bootstrap_intervals(Scores(y, np.zeros(2000)), ["mae"], Resampling(500))["mae"]
    assert metric.high - metric.low == pytest.approx(2 * 1.96 * np.abs(y).std() / np.sqrt(2000), rel=0.15)


def test_clusters_are_resampled_whole():
    """Twenty copies of each row in a cluster tell nothing new: the interval is that of the rows without copies."""
    rng = np.random.default_rng(1)
    y = rng.standard_normal(150)
    once = bootstrap_intervals(Scores(y, np.zeros(150)), ["mae"], Resampling(300))["mae"]
    member = rng.permutation(np.repeat(np.arange(150), 20))
    copies = y[member]
    clustered = Scores(copies, np.zeros(3000), member * 7)
    whole = bootstrap_intervals(clustered, ["mae"], Resampling(300))["mae"]
    naive = bootstrap_intervals(Scores(copies, np.zeros(3000)), ["mae"], Resampling(300))["mae"]
    assert whole.high - whole.low == pytest.approx(once.high - once.low, rel=0.15)
    assert naive.high - naive.low < 0.4 * (whole.high - whole.low)


def test_paired_difference_is_narrower_than_two_intervals():
    ours = binary_scores()
    other = Scores(ours.y, np.clip(ours.prediction + 0.02 * np.random.default_rng(3).standard_normal(600), 0, 1))
    difference = paired_bootstrap(ours, other, "roc_auc", Resampling(200))
    alone = bootstrap_intervals(ours, ["roc_auc"], Resampling(200))["roc_auc"]
    assert difference.high - difference.low < 0.5 * (alone.high - alone.low)
    swapped = paired_bootstrap(other, ours, "roc_auc", Resampling(200))
    assert swapped.value == -difference.value
    assert swapped.probability == pytest.approx(1 - difference.probability)


def test_equal_models_differ_by_nothing():
    ours = binary_scores()
    found = paired_bootstrap(ours, Scores(ours.y, ours.prediction.copy()), "log_loss", Resampling(60))
    assert (found.value, found.low, found.high, found.probability) == (0.0, 0.0, 0.0, 0.5)


def test_probability_knows_which_way_is_better():
    ours = binary_scores(separation=2.0)
    worse = Scores(ours.y, np.full(600, 0.5))
    assert paired_bootstrap(ours, worse, "brier", Resampling(60)).probability == 1.0
    assert paired_bootstrap(ours, worse, "roc_auc", Resampling(60)).probability == 1.0


def test_calibration_interval_is_around_its_value():
    """Resampling inflates the error of a calibrated model; the interval is moved back by that."""
    rng = np.random.default_rng(2)
    p = rng.random(3000)
    scores = Scores((rng.random(3000) < p) * 1.0, p)
    metric = bootstrap_intervals(scores, ["calibration_error"], Resampling(200))["calibration_error"]
    raw = draw({"m": scores}, ["calibration_error"], Resampling(200))["m"].draws["calibration_error"]
    assert raw.mean() > metric.value
    assert 0 <= metric.low < metric.value < metric.high


@pytest.mark.parametrize(
    ("y", "p", "words"),
    [
        ([], [], "no rows"),
        ([1, 1, 1], [0.1, 0.2, 0.3], "one class only"),
        ([0, 1, 1], [0.1, float("nan"), 0.3], "no finite prediction"),
        ([0, 1, float("nan")], [0.1, 0.2, 0.3], "no finite label"),
        ([0, 1, 1], [0.1, 0.2, 0.3], "3 rows, 10 needed"),
        ([0] * 40 + [1], [0.5] * 41, "1 rows of the rarer class"),
    ],
)
def test_degenerate_rows_give_a_reason(y, p, words):
    scores = Scores(np.array(y, dtype=float), np.array(p, dtype=float))
    metric = bootstrap_intervals(scores, ["roc_auc"], Resampling(50))["roc_auc"]
    assert words in metric.reason
    assert metric.low is None
    difference = paired_bootstrap(scores, scores, "roc_auc", Resampling(50))
    assert words in difference.reason
    assert difference.low is None


def test_too_few_clusters_and_constant_predictions():
    scores = binary_scores(100)
    few = Scores(scores.y, scores.prediction, np.arange(100) % 4)
    assert "4 clusters" in bootstrap_intervals(few, ["brier"], Resampling(50))["brier"].reason
    constant = Scores(scores.y, np.full(100, 0.3))
    found = bootstrap_intervals(constant, ["roc_auc", "average_precision"], Resampling(50))
    assert (found["roc_auc"].value, found["roc_auc"].low, found["roc_auc"].high) == (0.5, 0.5, 0.5)
    assert found["average_precision"].value == pytest.approx(scores.y.mean())


def test_different_rows_are_not_compared():
    found = paired_bootstrap(binary_scores(seed=1), binary_scores(seed=2), "brier", Resampling(50))
    assert (found.value, found.reason) == (None, "the two were scored on different rows")


def test_slope_of_calibrated_bold_and_timid_models():
    rng = np.random.default_rng(0)
    odds = rng.standard_normal(20_000) * 1.5
    y = (rng.random(20_000) < 1 / (1 + np.exp(-odds))) * 1.0
    for factor in (0.5, 1.0, 2.0):
        slope = calibration_slope(y, 1 / (1 + np.exp(-factor * odds)))
        assert slope.low < 1 / factor < slope.high
    separated = calibration_slope(np.array([0.0] * 9 + [1.0] * 9), np.linspace(0.01, 0.99, 18))
    assert separated.value is None
    assert "separate" in separated.reason
    assert "constant" in calibration_slope(y, np.full(20_000, 0.2)).reason
    assert "one class" in calibration_slope(np.ones(10), np.full(10, 0.2)).reason


def test_slope_covers_the_truth_as_often_as_it_says():
    covered = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        p = 1 / (1 + np.exp(-rng.standard_normal(400)))
        slope = calibration_slope((rng.random(400) < p) * 1.0, p, 0.9)
        covered += slope.low <= 1.0 <= slope.high
    assert abs(covered / 200 - 0.9) < 4 * np.sqrt(0.9 * 0.1 / 200)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=40),
    st.sampled_from([None, 2, 5]),
    st.sampled_from([("roc_auc",), ("roc_auc", "brier", "average_precision", "calibration_error", "f1")]),
    st.integers(1, 400),
)
def test_resamples_at_once_have_the_bits_of_one_after_the_other(
    rows: list[tuple[bool, int]], clusters: int | None, metrics: tuple[str, ...], at_once: int
) -> None:
    y, prediction = np.array([row[0] for row in rows], dtype=float), np.array([row[1] / 6 for row in rows])
    cluster = None if clusters is None else np.arange(len(rows)) % clusters
    models = {"a": Scores(y, prediction, cluster), "b": Scores(y, 1 - prediction**2, cluster)}
    found = []
    for most in (1, at_once):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("engine.evaluation.bootstrap._AT_ONCE", most)
            drawn = draw(models, metrics, Resampling(resamples=23, seed=5))
        found.append({
            (model, name): values.tobytes() for model, item in drawn.items() for name, values in item.draws.items()
        })  # fmt: skip
    assert found[0] == found[1]
