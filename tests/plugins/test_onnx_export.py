"""Models as ONNX give our outputs, whatever the trainer and the task, missing values and categories included.

So do calibrated ones. What has no counterpart is refused in words.
"""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import onnxruntime
import pytest

from engine.components import load_catalogue
from engine.config.loading import shipped_plugins
from engine.contracts import FitRequest, Matrix
from engine.errors import UsageError
from engine.nodes.calibrators import CalibratedPredictor, fit_calibrator
from engine.nodes.export import apart
from engine.nodes.onnx_calibration import calibrate_onnx
from engine.project import shipped

CATALOGUE = load_catalogue(shipped("."), shipped_plugins())
NAMES = ("a", "b", "kind", "constant", "empty")
CLASSES, LEVELS = ("x", "y", "z"), (0.1, 0.5, 0.9)
TASKS = ("binary", "multiclass", "regression", "quantile", "ranking")
BOOSTED = {"rounds": 25, "early_stopping": 0}
PARAMS = {"lightgbm": BOOSTED, "xgboost": BOOSTED, "catboost": BOOSTED, "linear": {}, "majority": {}}


def rows(task, n=1500, seed=0):
    draw = np.random.default_rng(seed)
    x = np.column_stack([draw.normal(size=n), draw.exponential(size=n), draw.integers(0, 5, n), np.ones(n), np.ones(n)])
    x[draw.random(x.shape) < 0.1] = np.nan
    x[:, 3], x[:, 4] = 2.5, np.nan
    x[: n // 2, 0] = np.round(x[: n // 2, 0], 1)  # tenths have other bits in single precision
    score = np.nan_to_num(x[:, 0]) + np.sin(np.nan_to_num(x[:, 1])) + (np.nan_to_num(x[:, 2]) == 3)
    noisy = score + draw.normal(size=n)
    y = {"binary": (noisy > 0.5) * 1.0, "multiclass": np.digitize(noisy, (0.0, 1.0)) * 1.0,
         "ranking": np.clip(np.round(noisy), 0, 3)}.get(task, noisy)  # fmt: skip
    group = np.repeat(np.arange(n // 10), 10) if task == "ranking" else None
    return Matrix(x, y, NAMES, ("kind",), group=group)


def trained(kind, task, levels=LEVELS, **params):
    component = CATALOGUE.get("trainer", kind)
    trainer = component.build(msgspec.convert({**PARAMS.get(kind, {}), **params}, component.params))
    request = FitRequest(
        task, 1, 1, lambda *_: None, classes=CLASSES if task == "multiclass" else (),
        quantiles=levels if task == "quantile" else (),
    )  # fmt: skip
    data = rows(task)
    return trainer, trainer.train(data, data, request), data


def outputs(content, x):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["prediction"], {"x": x})[0]


def largest_gap(trainer, files, x, odd_values=(np.nan, np.inf, -np.inf, 1e300)):
    """Compare on rows, and on rows with a value that is missing, odd or out of all bounds in turn."""
    odd = np.repeat(x[:1], len(odd_values) * x.shape[1], axis=0)
    for place, value in enumerate(odd_values):
        np.fill_diagonal(odd[place * x.shape[1] :], value)
    every = np.vstack([x, odd])
    ours, theirs = trainer.load(files).predict(every), outputs(trainer.to_onnx(files), every)
    assert theirs.shape == ours.shape
    assert theirs.dtype == np.float64
    return apart(ours, theirs)


@pytest.mark.parametrize(("kind", "task"), list(itertools.product(PARAMS, TASKS)))
def test_models_give_our_outputs(kind, task):
    trainer, files, data = trained(kind, task)
    assert largest_gap(trainer, files, data.x) < getattr(trainer, "onnx_tolerance", 1e-12)


@pytest.mark.parametrize("kind", list(PARAMS))
def test_a_single_quantile_is_a_column(kind):
    trainer, files, data = trained(kind, "quantile", levels=(0.9,))
    assert largest_gap(trainer, files, data.x) < getattr(trainer, "onnx_tolerance", 1e-12)


@pytest.mark.parametrize("params", [{"grow_policy": "Lossguide"}, {"nan_mode": "Max"}, {"grow_policy": "Depthwise"}])
def test_every_shape_of_catboosts_trees(params):
    for task in ("regression", "multiclass"):
        trainer, files, data = trained("catboost", task, params=params)
        assert largest_gap(trainer, files, data.x) < 1e-12


def test_leaves_of_vectors_are_refused():
    trainer, files, _ = trained("xgboost", "multiclass", params={"multi_strategy": "multi_output_tree"})
    with pytest.raises(UsageError, match="vector in each leaf"):
        trainer.to_onnx(files)


@pytest.mark.parametrize("method", ["isotonic", "platt", "beta"])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_calibrated_models_give_our_outputs(task, method):
    trainer, files, data = trained("lightgbm", task)
    plain = trainer.load(files)
    calibrator = fit_calibrator(method, plain.predict(data.x), data.y)
    ours = CalibratedPredictor(plain, calibrator).predict(data.x)
    theirs = outputs(calibrate_onnx(trainer.to_onnx(files), calibrator), data.x)
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() < 1e-10


PLAIN = ("LogisticRegression", "GaussianNB", "MLPClassifier", "LinearDiscriminantAnalysis")
LINES = ("LinearRegression", "Ridge", "Lasso", "ElasticNet", "HuberRegressor", "MLPRegressor")
GROWN = ("DecisionTree", "RandomForest", "ExtraTrees", "GradientBoosting", "HistGradientBoosting")
SMALL = {"RandomForest": {"n_estimators": 8}, "ExtraTrees": {"n_estimators": 8}, "GradientBoosting": {"n_estimators": 8},
         "HistGradientBoosting": {"max_iter": 8}, "MLP": {"max_iter": 20}}  # fmt: skip
ESTIMATORS = [
    *((name, task) for name in (*PLAIN, "AdaBoostClassifier", *(f"{kind}Classifier" for kind in GROWN))
      for task in ("binary", "multiclass")),
    *((name, "regression") for name in (*LINES, *(f"{kind}Regressor" for kind in GROWN))),
]  # fmt: skip


@pytest.mark.parametrize(("estimator", "task"), ESTIMATORS)
def test_estimators_of_scikit_learn_give_our_outputs(estimator, task):
    small = SMALL.get(estimator.removesuffix("Classifier").removesuffix("Regressor"), {})
    trainer, files, data = trained("sklearn", task, estimator=estimator, params=small)
    assert largest_gap(trainer, files, data.x) < 1e-12


SAME = ("SimpleImputer", "StandardScaler", "MinMaxScaler", "RobustScaler", "PCA", "VarianceThreshold")
REFUSED = ("PolynomialFeatures", "KBinsDiscretizer", "QuantileTransformer", "PowerTransformer")


def stepped(step, last="LogisticRegression"):
    steps = [{"name": "SimpleImputer", "params": {"keep_empty_features": True}}, {"name": step}]
    return trained("sklearn", "binary", estimator=last, params=SMALL.get(last[:12], {}), steps=steps)


@pytest.mark.parametrize("last", ["LogisticRegression", "RandomForestClassifier"])
@pytest.mark.parametrize("step", SAME)
def test_steps_give_our_outputs(step, last):
    trainer, files, data = stepped(step, last)
    assert largest_gap(trainer, files, data.x) < 1e-12


@pytest.mark.parametrize("step", REFUSED)
@pytest.mark.filterwarnings("ignore")  # of columns that do not vary
def test_steps_that_cannot_be_written_are_refused_in_words(step):
    trainer, files, _ = stepped(step)
    with pytest.raises(UsageError, match=r"ONNX|skl2onnx") as caught:
        trainer.to_onnx(files)
    assert "mlflow" in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_splines_are_loaded_again():
    trainer, files, data = stepped("SplineTransformer")
    assert np.isfinite(trainer.load(files).predict(data.x)).all()
