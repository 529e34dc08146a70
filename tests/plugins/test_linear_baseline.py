"""The trainers `linear` and `majority` against closed forms and what they promise of nulls and categories."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.components import load_catalogue
from engine.contracts import FitRequest, Matrix
from engine.errors import DataError

CATALOGUE = load_catalogue(Path(__file__).resolve().parents[2], ("baselines",))


def fit(kind, rows, task, **params):
    component = CATALOGUE.get("trainer", kind)
    trainer = component.build(msgspec.convert(params, component.params))
    files = trainer.train(rows, rows, FitRequest(task, 0, 1, lambda *_: None))
    return trainer.load(files), json.loads(files["model.json"])


def test_regression_is_ridge():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5000, 3)) * [1, 50, 1e-4] + [0, 1e3, 7]
    y = 3 + 2 * x[:, 0] - 0.1 * x[:, 1] + 500 * x[:, 2] + rng.standard_normal(5000)
    predictor, model = fit("linear", Matrix(x, y, ("a", "b", "c")), "regression", l2=10.0)
    z = (x - x.mean(0)) / x.std(0)
    expected = np.linalg.solve(z.T @ z + 10 * np.eye(3), z.T @ (y - y.mean()))
    assert model["weights"][0][1:] == pytest.approx(expected, rel=1e-3)
    assert predictor.predict(x) == pytest.approx(y.mean() + z @ expected, abs=1e-3 * y.std())


def test_logistic_regression_is_at_the_optimum():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((9000, 3))
    y = (rng.random(9000) < 1 / (1 + np.exp(-(x @ [1.0, -0.5, 0.0] - 1)))) * 1.0
    predictor, model = fit("linear", Matrix(x, y, ("a", "b", "c")), "binary", l2=5.0)
    z = (x - x.mean(0)) / x.std(0)
    residual = predictor.predict(x) - y
    gradient = np.append(residual.sum(), z.T @ residual + 5 * np.array(model["weights"][0][1:])) / 9000
    assert np.abs(gradient).max() < 2e-5
    assert model["weights"][0] == pytest.approx([-1, 1, -0.5, 0], abs=0.1)


def test_nulls_are_the_mean_with_one_indicator_for_columns_null_together():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((4000, 3))
    gone = rng.random(4000) < 0.3
    x[gone, 0] = x[gone, 1] = np.nan
    y = 5.0 * gone + 0.01 * rng.standard_normal(4000)
    predictor, model = fit("linear", Matrix(x, y, ("a", "b", "c")), "regression")
    assert model["encoding"]["indicators"] == [0]
    row = np.zeros((1, 3))
    assert predictor.predict(row)[0] == pytest.approx(0, abs=0.05)
    assert predictor.predict(np.array([[np.nan, np.nan, 0.0]]))[0] == pytest.approx(5, abs=0.05)


def test_categories_are_one_hot_up_to_the_most_frequent():
    rng = np.random.default_rng(3)
    codes = rng.choice([-1.0, 3.0, 7.0, 40.0], 4000, p=[0.1, 0.4, 0.3, 0.2])
    effect = {-1.0: 9.0, 3.0: 1.0, 7.0: -2.0, 40.0: 4.0}
    y = np.array([effect[code] for code in codes]) + 0.01 * rng.standard_normal(4000)
    rows = Matrix(codes[:, None], y, ("ix",), ("ix",))
    predictor, model = fit("linear", rows, "regression", l2=1e-3)
    assert model["encoding"]["levels"] == [[-1.0, 3.0, 7.0, 40.0]]
    for code, value in effect.items():
        assert predictor.predict(np.array([[code]]))[0] == pytest.approx(value, abs=0.02)
    _, model = fit("linear", rows, "regression", max_levels=2)
    assert model["encoding"]["levels"] == [[3.0, 7.0]]
    assert np.isfinite(predictor.predict(np.array([[999.0], [np.nan]]))).all()


def test_separated_labels_and_no_useful_column_still_give_probabilities():
    x = np.linspace(-1, 1, 200)[:, None]
    predictor, _ = fit("linear", Matrix(x, (x[:, 0] > 0) * 1.0, ("a",)), "binary", l2=1e-6)
    found = predictor.predict(np.array([[-1e12], [-1.0], [1.0], [1e12]]))
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()
    y = np.arange(200) % 4 // 3 * 1.0
    nothing, model = fit("linear", Matrix(np.full((200, 1), 3.0), y, ("a",)), "binary")
    assert nothing.predict(np.zeros((1, 1)))[0] == pytest.approx(0.25, abs=1e-4)
    assert len(model["weights"][0]) == 1


def test_labels_beyond_squaring_are_refused():
    x = np.arange(20.0)[:, None]
    with pytest.raises(DataError, match="too large to square"):
        fit("linear", Matrix(x, np.where(x[:, 0] > 9, 1e308, -1e308), ("a",)), "regression")


def test_majority_gives_rate_mean_or_median():
    x = np.zeros((5, 1))
    y = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
    assert fit("majority", Matrix(x, y, ("a",)), "binary", statistic="median")[0].predict(x).tolist() == [0.4] * 5
    y = np.array([1.0, 2.0, 3.0, 4.0, 90.0])
    assert fit("majority", Matrix(x, y, ("a",)), "regression")[0].predict(x[:1]).tolist() == [20.0]
    assert fit("majority", Matrix(x, y, ("a",)), "regression", statistic="median")[0].predict(x[:1]).tolist() == [3.0]
