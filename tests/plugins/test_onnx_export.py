"""Models as ONNX give our outputs, whatever the task, missing values and categories included; so do calibrated ones."""

from __future__ import annotations

import msgspec
import numpy as np
import onnxruntime
import pytest

from engine.components import load_catalogue
from engine.config.loading import shipped_plugins
from engine.contracts import FitRequest, Matrix
from engine.nodes.calibrators import CalibratedPredictor, fit_calibrator
from engine.nodes.onnx_calibration import calibrate_onnx
from engine.project import shipped

CATALOGUE = load_catalogue(shipped("."), shipped_plugins())
NAMES = ("a", "b", "kind")
CLASSES, LEVELS = ("x", "y", "z"), (0.1, 0.5, 0.9)


def rows(task, n=1500, seed=0):
    draw = np.random.default_rng(seed)
    x = np.column_stack([draw.normal(size=n), draw.exponential(size=n), draw.integers(0, 5, n)])
    x[draw.random((n, 3)) < 0.1] = np.nan
    score = np.nan_to_num(x[:, 0]) + np.sin(np.nan_to_num(x[:, 1])) + (np.nan_to_num(x[:, 2]) == 3)
    noisy = score + draw.normal(size=n)
    y = {"binary": (noisy > 0.5) * 1.0, "multiclass": np.digitize(noisy, (0.0, 1.0)) * 1.0,
         "ranking": np.clip(np.round(noisy), 0, 3)}.get(task, noisy)  # fmt: skip
    group = np.repeat(np.arange(n // 10), 10) if task == "ranking" else None
    return Matrix(x, y, NAMES, ("kind",), group=group)


def trained(task, **params):
    component = CATALOGUE.get("trainer", "lightgbm")
    trainer = component.build(msgspec.convert({"rounds": 25, "early_stopping": 0, **params}, component.params))
    request = FitRequest(
        task, 1, 1, lambda *_: None, classes=CLASSES if task == "multiclass" else (),
        quantiles=LEVELS if task == "quantile" else (),
    )  # fmt: skip
    data = rows(task)
    return trainer, trainer.train(data, data, request), data


def outputs(content, x):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["prediction"], {"x": x})[0]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression", "quantile", "ranking"])
def test_trees_give_our_outputs(task):
    trainer, files, data = trained(task)
    ours = trainer.load(files).predict(data.x)
    theirs = outputs(trainer.to_onnx(files), data.x)
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() < 1e-12


@pytest.mark.parametrize("method", ["isotonic", "platt", "beta"])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_calibrated_models_give_our_outputs(task, method):
    trainer, files, data = trained(task)
    plain = trainer.load(files)
    calibrator = fit_calibrator(method, plain.predict(data.x), data.y)
    ours = CalibratedPredictor(plain, calibrator).predict(data.x)
    theirs = outputs(calibrate_onnx(trainer.to_onnx(files), calibrator), data.x)
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() < 1e-10
