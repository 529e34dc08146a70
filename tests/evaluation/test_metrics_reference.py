"""Metrics against brute force and scipy, for whole weights and ties; and why a metric has no value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from engine.evaluation.metrics import METRICS, calibration_bins, measure, prepare, why_undefined
from engine.evaluation.names import DEFAULT_METRICS, METRIC_NAMES, check_metrics, choose_metrics
from engine.spec import EvaluateSpec

BINARY = [name for name, metric in METRICS.items() if "binary" in metric.tasks]
REGRESSION = [name for name, metric in METRICS.items() if "regression" in metric.tasks]


@st.composite
def binary_rows(draw):
    n = draw(st.integers(2, 60))
    y = np.array(draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n)))
    y[:2] = [0.0, 1.0]
    steps = draw(st.sampled_from([3, 10, 10_000]))  # few steps: many ties
    p = np.array(draw(st.lists(st.integers(0, steps), min_size=n, max_size=n))) / steps
    weight = np.array(draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), dtype=float)
    return y, p, weight


def average_precision(y, p):
    """By definition: precision at each threshold, weighted by the recall that it adds."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(p), reverse=True):
        chosen = p >= threshold
        new = y[chosen].sum() / y.sum()
        total += (new - recall) * y[chosen].mean()
        recall = new
    return total


@settings(max_examples=150, deadline=None)
@given(binary_rows())
def test_ranking_and_means_against_their_definitions(rows):
    y, p, _ = rows
    pairs = [(a > b) + 0.5 * (a == b) for a in p[y == 1] for b in p[y == 0]]
    assert measure("roc_auc", y, p) == pytest.approx(np.mean(pairs), abs=1e-12)
    u = mannwhitneyu(p[y == 1], p[y == 0], method="asymptotic").statistic
    assert measure("roc_auc", y, p) == pytest.approx(u / (y.sum() * (1 - y).sum()), abs=1e-12)
    assert measure("average_precision", y, p) == pytest.approx(average_precision(y, p), abs=1e-12)
    assert measure("brier", y, p) == pytest.approx(((y - p) ** 2).mean(), abs=1e-12)
    assert measure("accuracy", y, p) == ((p >= 0.5) == y).mean()
    kept = np.clip(p, np.finfo(float).eps, 1 - np.finfo(float).eps)
    assert measure("log_loss", y, p) == pytest.approx(-np.mean(np.log(np.where(y == 1, kept, 1 - kept))), rel=1e-9)


@settings(max_examples=150, deadline=None)
@given(binary_rows())
def test_weights_count_rows(rows):
    """A weight of 3 is the row three times, but for the bins of the calibration, which stay those of the sample."""
    y, p, weight = rows
    names = [name for name in BINARY if name != "calibration_error"]
    found = prepare(y, p, names)(weight)
    repeated_y, repeated_p = np.repeat(y, weight.astype(int)), np.repeat(p, weight.astype(int))
    for name in names:
        expected = measure(name, repeated_y, repeated_p)
        if expected is None:
            assert np.isnan(found[name])
        else:
            assert found[name] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(0, 3)), min_size=3, max_size=40))
def test_regression_metrics_against_their_definitions(rows):
    y, p, weight = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    y[:2] = [0.0, 5.0]
    assert measure("rmse", y, p) == pytest.approx(np.sqrt(((y - p) ** 2).mean()), rel=1e-9)
    assert measure("mae", y, p) == pytest.approx(np.abs(y - p).mean(), rel=1e-9)
    assert measure("r2", y, p) == pytest.approx(1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum(), rel=1e-9)
    repeated = np.repeat(np.arange(len(y)), weight.astype(int))
    if len(repeated) and np.ptp(y[repeated]) > 1e-3:
        defined = [name for name in REGRESSION if measure(name, y, p) is not None]  # `mape` never is: a label is 0
        found = prepare(y, p, defined)(weight)
        for name in defined:
            assert found[name] == pytest.approx(measure(name, y[repeated], p[repeated]), rel=1e-6, abs=1e-9)


def test_r2_of_a_resample_without_the_outlier_keeps_its_digits():
    y, p = np.array([0.0, 5.0, 0.0, 1e6]), np.array([5.0, 0.0, 0.0, 0.0])
    weight = np.array([1.0, 1.0, 0.0, 0.0])
    assert prepare(y, p, ["r2"])(weight)["r2"] == pytest.approx(measure("r2", y[:2], p[:2]), rel=1e-12)


def test_r2_far_from_zero_keeps_its_digits():
    rng = np.random.default_rng(0)
    y = rng.standard_normal(1000)
    p = y + 0.5 * rng.standard_normal(1000)
    assert measure("r2", y + 1e9, p + 1e9) == pytest.approx(measure("r2", y, p), rel=1e-5)


def test_calibration_error_by_hand():
    # Ten bins of two rows each; in each the mean gap is 0.1.
    p = np.repeat(np.linspace(0.05, 0.95, 10), 2)
    y = np.zeros(20)
    expected = sum(2 * value for value in np.linspace(0.05, 0.95, 10)) / 20
    assert measure("calibration_error", y, p) == pytest.approx(expected, abs=1e-12)


def test_bins_have_equal_mass_and_keep_ties_together():
    p = np.random.default_rng(0).random(1003)
    assert set(np.bincount(calibration_bins(p))) <= {100, 101}
    tied = np.round(p, 1)
    assert all(len(set(calibration_bins(tied)[tied == value])) == 1 for value in set(tied))
    assert calibration_bins(np.full(7, 0.3)).tolist() == [0] * 7


@pytest.mark.parametrize("name", BINARY)
def test_every_binary_metric_says_why_it_is_not_defined(name):
    y, p = np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.7, 0.4])
    assert why_undefined(name, y, p) == ""
    assert measure(name, y, p) is not None
    empty = np.array([])
    for bad_y, bad_p in (
        (empty, empty),
        (np.array([0.0, np.nan, 1.0]), p),
        (y, np.array([0.2, np.nan, 0.4])),
        (y, np.array([0.2, np.inf, 0.4])),
        (np.array([0.0, 2.0, 1.0]), p),
    ):
        assert why_undefined(name, bad_y, bad_p)
        assert measure(name, bad_y, bad_p) is None
    one_class = np.ones(3)
    assert (measure(name, one_class, p) is None) == METRICS[name].both_classes
    assert (measure(name, y, p * 3) is None) == METRICS[name].probability


@pytest.mark.parametrize("name", REGRESSION)
def test_every_regression_metric_survives_bad_numbers(name):
    y, p = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.5, 3.0])
    assert measure(name, y, p) is not None
    assert measure(name, np.array([]), np.array([])) is None
    assert measure(name, y, np.array([np.nan, 1, 2])) is None
    huge = measure(name, np.array([1e300, -1e300, 0.0]), p)  # squares overflow: a value or none, never a warning
    assert huge is None or np.isfinite(huge)
    assert (measure(name, np.ones(3), p) is None) == (name == "r2")


def test_names_and_implementations_are_the_same_set():
    assert set(METRIC_NAMES) == set(METRICS)
    for name, metric in METRICS.items():
        assert (metric.tasks, metric.higher_is_better) == (
            METRIC_NAMES[name].tasks,
            METRIC_NAMES[name].higher_is_better,
        )


def test_choice_and_check_of_metrics():
    assert choose_metrics("binary", EvaluateSpec()) == (DEFAULT_METRICS["binary"], "roc_auc")
    assert choose_metrics("regression", EvaluateSpec(metrics=("mae",), primary="r2")) == (("r2", "mae"), "r2")
    assert check_metrics("regression", EvaluateSpec()) == ()
    [typo, wrong] = check_metrics("binary", EvaluateSpec(metrics=("roc_auk",), primary="rmse"))
    assert (typo.path, typo.suggestion) == ("evaluate.metrics.0", "roc_auc")
    assert "task binary" in wrong.message
