"""Metrics of several classes, quantiles and rankings against scikit-learn's values, and calibration as a step of the model."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from engine.contracts import Scores
from engine.errors import DataError
from engine.evaluation.bootstrap import Resampling, bootstrap_intervals
from engine.evaluation.metrics import Aside, measure, prepare, why_undefined
from engine.nodes.calibrators import calibrator_from_json, fit_calibrator

RNG = np.random.default_rng(5)


def test_several_classes_equal_the_reference():
    y = RNG.integers(0, 4, 500).astype(float)
    p = RNG.dirichlet(np.ones(4), 500) + 0.5 * np.eye(4)[y.astype(int)]
    p /= p.sum(axis=1, keepdims=True)
    said = p.argmax(axis=1)
    assert measure("log_loss", y, p) == pytest.approx(reference.log_loss(y, p), rel=1e-9)
    assert measure("accuracy", y, p) == pytest.approx(reference.accuracy_score(y, said))
    assert measure("macro_f1", y, p) == pytest.approx(reference.f1_score(y, said, average="macro"), rel=1e-9)
    assert measure("weighted_f1", y, p) == pytest.approx(reference.f1_score(y, said, average="weighted"), rel=1e-9)
    assert measure("balanced_accuracy", y, p) == pytest.approx(reference.balanced_accuracy_score(y, said), rel=1e-9)
    assert measure("mcc", y, p) == pytest.approx(reference.matthews_corrcoef(y, said), rel=1e-9)
    expected = reference.roc_auc_score(y, p, multi_class="ovr", average="macro")
    assert measure("roc_auc_ovr", y, p) == pytest.approx(expected, rel=1e-9)
    weight = RNG.integers(0, 4, 500).astype(float)
    found = prepare(y, p, ["macro_f1", "log_loss"])(weight)
    assert found["macro_f1"] == pytest.approx(
        reference.f1_score(y, said, average="macro", sample_weight=weight), rel=1e-9
    )
    assert found["log_loss"] == pytest.approx(reference.log_loss(y, p, sample_weight=weight), rel=1e-9)


def test_quantiles_equal_the_reference():
    y, levels = RNG.exponential(2, 400), (0.1, 0.5, 0.9)
    p = np.sort(RNG.exponential(2, (400, 3)), axis=1)
    losses = [reference.mean_pinball_loss(y, p[:, i], alpha=level) for i, level in enumerate(levels)]
    aside = Aside(quantiles=levels)
    assert measure("pinball", y, p, aside) == pytest.approx(np.mean(losses), rel=1e-9)
    assert measure("coverage", y, p, aside) == pytest.approx(((y >= p[:, 0]) & (y <= p[:, 2])).mean())
    assert "one a quantile" in why_undefined("pinball", y, p[:, :2], aside)


def test_rankings_equal_the_reference():
    group = np.repeat(np.arange(30), 20)
    y, p = RNG.integers(0, 4, 600).astype(float), RNG.standard_normal(600)
    order = RNG.permutation(600)
    aside = Aside(group[order])
    rows = y.reshape(30, 20), p.reshape(30, 20)
    expected = reference.ndcg_score(2 ** rows[0] - 1, rows[1], k=10)
    assert measure("ndcg_at_10", y[order], p[order], aside) == pytest.approx(expected, rel=1e-9)
    means = [reference.average_precision_score(a > 0, b) for a, b in zip(*rows, strict=True) if (a > 0).any()]
    assert measure("map", y[order], p[order], aside) == pytest.approx(np.mean(means), rel=1e-9)
    assert "query" in why_undefined("ndcg", y, p)


def test_other_regression_metrics_equal_the_reference():
    y, p = RNG.exponential(2, 301) + 0.1, RNG.exponential(2, 301)
    assert measure("mape", y, p) == pytest.approx(reference.mean_absolute_percentage_error(y, p), rel=1e-9)
    assert measure("median_absolute_error", y, p) == pytest.approx(reference.median_absolute_error(y, p))
    assert measure("wape", y, p) == pytest.approx(np.abs(y - p).sum() / np.abs(y).sum())
    assert "is not defined" in why_undefined("mape", np.zeros(3), np.ones(3))


def test_queries_are_resampled_whole():
    group = np.repeat(np.arange(30), 10)
    y, p = RNG.integers(0, 3, 300).astype(float), RNG.standard_normal(300)
    found = bootstrap_intervals(Scores(y, p, group, group), ["ndcg_at_10"], Resampling(100))["ndcg_at_10"]
    assert found.low < found.value < found.high


@pytest.mark.parametrize("method", ["isotonic", "platt", "beta"])
def test_a_calibration_helps_is_monotone_and_scores_one_row_as_many(method):
    truth = RNG.random(4000)
    y = (RNG.random(4000) < truth) * 1.0
    bold = 1 / (1 + np.exp(-3 * np.log(truth / (1 - truth))))
    fitted = calibrator_from_json(fit_calibrator(method, bold[:2000], y[:2000]).to_json())
    mapped = fitted.apply(bold[2000:])
    assert measure("log_loss", y[2000:], mapped) < measure("log_loss", y[2000:], bold[2000:])
    assert measure("calibration_error", y[2000:], mapped) < 0.05
    grid = fitted.apply(np.linspace(0, 1, 500))
    assert (np.diff(grid) >= -1e-15).all()
    assert ((grid >= 0) & (grid <= 1)).all()
    for index in (0, 7, 1999):
        assert fitted.apply(bold[2000 + index : 2001 + index]).tobytes() == mapped[index : index + 1].tobytes()
    with pytest.raises(DataError, match="too few"):
        fit_calibrator(method, bold[:5], y[:5])
    with pytest.raises(DataError, match="one class only"):
        fit_calibrator(method, bold[:500], np.ones(500))


def test_several_classes_are_calibrated_to_a_sum_of_one():
    y = RNG.integers(0, 3, 900).astype(float)
    p = RNG.dirichlet(np.ones(3), 900)
    mapped = fit_calibrator("isotonic", p, y).apply(p)
    assert mapped.sum(axis=1) == pytest.approx(np.ones(900), abs=1e-12)
