"""Estimates before labels against the truth, by simulation: within their own error, and blind to what they cannot see."""

from __future__ import annotations

import os

import numpy as np
import polars as pl
import pytest

from engine.evaluation.metrics import measure
from engine.watch.frozen import freeze
from engine.watch.performance import apply_calibration, calibrate, estimate_binary, estimate_regression
from plugins.monitors_standard.losing import fit_losses

DRAWS = int(os.environ.get("PLUMBLINE_DRAWS", "60"))


def scored(rng: np.random.Generator, count: int, moved: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores that overstate, of features that moved; labels by the true probability."""
    score = 1 / (1 + np.exp(-rng.normal(moved, 1.2, count)))
    return score, (rng.random(count) < score**1.5).astype(float)


@pytest.mark.parametrize("name", ["roc_auc", "log_loss", "brier"])
def test_the_realised_metric_lies_within_the_sampling_error_of_the_estimate(name: str) -> None:
    rng = np.random.default_rng(1)
    points = calibrate(*scored(rng, 40_000, 0.0))
    inside = 0
    for _ in range(DRAWS):
        score, y = scored(rng, 1_000, 0.8)  # covariates moved, the relation did not
        found = estimate_binary(name, apply_calibration(points, score), score)
        assert found.value is not None
        inside += abs((measure(name, y, score) or 0.0) - found.value) <= 1.96 * found.error
    assert inside / DRAWS >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / DRAWS)


def test_an_estimate_does_not_see_a_changed_relation() -> None:
    rng = np.random.default_rng(2)
    points = calibrate(*scored(rng, 40_000, 0.0))
    score, y = scored(rng, 2_000, 0.0)
    found = estimate_binary("brier", apply_calibration(points, score), score)
    assert abs((measure("brier", 1 - y, score) or 0.0) - (found.value or 0.0)) > 10 * found.error


def noisy(rng: np.random.Generator, count: int, moved: float) -> pl.DataFrame:
    """A regression whose noise is by a feature that the prediction does not show."""
    x, z = rng.normal(size=count), rng.normal(moved, 1.0, count)
    y = x + np.exp(0.5 * z) * rng.normal(size=count)
    return pl.DataFrame({"x": x, "z": z, "prediction": x, "label": y})


@pytest.mark.parametrize("name", ["mae", "rmse"])
def test_the_loss_of_a_regression_is_estimated_from_features(name: str) -> None:
    pytest.importorskip("lightgbm")
    rng = np.random.default_rng(3)
    held = [noisy(rng, 2_000, 0.0) for _ in range(6)]
    model = fit_losses(name, held, freeze(held, ["x", "z"]))
    whole = pl.concat(held)
    pair = whole["label"].to_numpy(), whole["prediction"].to_numpy()
    ours, plain, usual = [], [], []
    for _ in range(8):
        rows, same = noisy(rng, 1_000, 0.7), noisy(rng, 1_000, 0.0)
        truth = measure(name, rows["label"].to_numpy(), rows["prediction"].to_numpy())
        ours.append((model.expect(rows).value or 0.0) - truth)
        plain.append((estimate_regression(name, pair, rows["prediction"].to_numpy()).value or 0.0) - truth)
        found = model.expect(same)
        usual.append(
            ((found.value or 0.0) - measure(name, same["label"].to_numpy(), same["prediction"].to_numpy()))
            / found.error
        )
    assert abs(np.mean(ours)) < 0.25 * abs(np.mean(plain))  # what like scores lost before does not see the feature
    assert abs(np.mean(usual)) < 2.0
    assert np.std(usual) < 2.5
