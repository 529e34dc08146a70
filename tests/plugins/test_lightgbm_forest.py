"""A server's trees have LightGBM's own bits, on models of every kind; what the kernel does not know is left to LightGBM."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import lightgbm
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.components import load_catalogue
from engine.contracts import FitRequest, Matrix
from engine.modelling import ServingPredictor

ROOT = Path(__file__).resolve().parents[2]
COMPONENT = load_catalogue(ROOT, ("lightgbm_trainer",)).get("trainer", "lightgbm")
COMPONENT.build(COMPONENT.params())
forest = sys.modules["plumbline_plugins.lightgbm_trainer.forest"]


def drawn(seed: int, *, missing: float, zeros: float, categories: int, rows: int = 600) -> np.ndarray:
    """Five columns of numbers, with missing values and zeros, and one of categories."""
    draw = np.random.default_rng(seed)
    x = np.round(draw.normal(size=(rows, 6)), draw.integers(0, 4))
    x[draw.random(x.shape) < missing] = math.nan
    x[draw.random(x.shape) < zeros] = 0.0
    x[:, 5] = draw.integers(0, categories, rows)
    return x


def trained(x: np.ndarray, objective: str, seed: int, **params: object) -> lightgbm.Booster:
    draw = np.random.default_rng(seed)
    signal = np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1] * x[:, 2]) + (x[:, 5] % 3)
    y = signal + draw.normal(size=len(x))
    if objective == "binary":
        y = (y > 1).astype(float)
    elif objective == "poisson":
        y = np.maximum(np.round(y), 0)
    elif objective.startswith("multiclass"):
        y = np.digitize(y, [0, 2]).astype(float)
    settings_ = {
        "objective": objective,
        "verbosity": -1,
        "min_data_in_leaf": 3,
        "num_threads": 1,
        "seed": seed,
        **params,
    }
    if objective.startswith("multiclass"):
        settings_["num_class"] = 3
    return lightgbm.train(settings_, lightgbm.Dataset(x, y, categorical_feature=[5]), num_boost_round=13)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["binary", "regression", "regression_l1", "huber", "quantile", "poisson", "multiclass"]),
    st.sampled_from(
        [{}, {"zero_as_missing": True}, {"use_missing": False}, {"max_cat_to_onehot": 64}, {"sigmoid": 0.7}]
    ),
    st.tuples(st.sampled_from([0.0, 0.1]), st.integers(2, 90), st.sampled_from([2, 31, 200])),
)
def test_a_forest_has_the_bits_of_its_booster(
    seed: int, objective: str, params: dict[str, object], shape: tuple[float, int, int]
) -> None:
    missing, categories, leaves = shape
    x = drawn(seed, missing=missing, zeros=0.1, categories=categories)
    booster = trained(x, objective, seed, num_leaves=leaves, **params)
    made = forest.make_forest(booster)
    assert made is not None
    asked = np.concatenate([
        drawn(seed + 1, missing=0.2, zeros=0.2, categories=2 * categories, rows=50), forest.make_probes(made, 400)
    ])  # fmt: skip
    theirs = np.asarray(booster.predict(asked, num_threads=1))
    assert made.score(asked).tobytes() == theirs.tobytes()
    assert b"".join(made.score(asked[i : i + 1]).tobytes() for i in range(60)) == theirs[:60].tobytes()


def test_a_label_that_never_changes_makes_trees_without_branches() -> None:
    x = drawn(3, missing=0.0, zeros=0.0, categories=4)
    booster = lightgbm.train({"objective": "regression", "verbosity": -1}, lightgbm.Dataset(x, np.full(len(x), 2.5)), 3)
    made = forest.make_forest(booster)
    assert made is not None
    assert made.inner == 0
    assert made.score(x).tobytes() == np.asarray(booster.predict(x)).tobytes()


@pytest.mark.parametrize(
    ("objective", "params"),
    [
        ("regression", {"linear_tree": True}),
        ("regression", {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}),
        ("regression", {"reg_sqrt": True}),
        ("multiclassova", {}),
        ("gamma", {}),
    ],
)
def test_what_the_kernel_does_not_know_is_left_to_lightgbm(objective: str, params: dict[str, object]) -> None:
    x = drawn(5, missing=0.0, zeros=0.0, categories=4)
    if objective == "gamma":
        data = lightgbm.Dataset(x, np.exp(np.nan_to_num(x[:, 0])))
        booster = lightgbm.train({"objective": "gamma", "verbosity": -1}, data, 5)
    else:
        booster = trained(x, objective, 5, **params)
    assert forest.make_forest(booster) is None


def test_a_forest_that_differs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    booster = trained(drawn(7, missing=0.1, zeros=0.0, categories=5), "binary", 7)
    read = forest.read_forest

    def damaged(text: str) -> object:
        found = read(text)
        found.child[:4] = found.child[[1, 0, 2, 3]]  # the first tree's first branch
        return found

    monkeypatch.setattr(forest, "read_forest", damaged)
    assert forest.make_forest(booster) is None


@pytest.mark.parametrize(
    ("task", "classes", "quantiles"),
    [("binary", (), ()), ("multiclass", ("p", "q", "r"), ()), ("quantile", (), (0.1, 0.5, 0.9))],
)
def test_a_prepared_predictor_gives_what_it_gave_before(
    task: str, classes: tuple[str, ...], quantiles: tuple[float, ...]
) -> None:
    x = drawn(9, missing=0.1, zeros=0.1, categories=5, rows=500)
    y = np.nan_to_num(x[:, 0]) + x[:, 5]
    labels = {"binary": (y > 2) * 1.0, "multiclass": np.digitize(y, [1, 3]) * 1.0, "quantile": y}[task]
    rows = Matrix(x, labels, tuple("abcdef"))
    trainer = COMPONENT.build(msgspec.convert({"rounds": 20, "early_stopping": 0}, COMPONENT.params))
    fit = FitRequest(task, 1, 1, lambda *_: None, classes=classes, quantiles=quantiles)
    predictor = trainer.load(trainer.train(rows, rows, fit))
    before = [predictor.predict(part).tobytes() for part in (x[:1], x[:20], x)]
    assert isinstance(predictor, ServingPredictor)
    predictor.prepare()
    assert [predictor.predict(part).tobytes() for part in (x[:1], x[:20], x)] == before


def test_a_text_of_another_version_or_cut_short_is_left_to_lightgbm() -> None:
    text = trained(drawn(11, missing=0.1, zeros=0.1, categories=5), "binary", 11).model_to_string()
    for changed in (text.replace("version=v4", "version=v5"), text.replace("leaf_value=", "leaf="), "tree\n"):
        with pytest.raises((forest.UnusualError, KeyError, ValueError)):
            forest.read_forest(changed)


def test_only_a_server_imports_the_compiler() -> None:
    code = (
        "import sys; from pathlib import Path; from engine.components import load_catalogue;"
        f"c = load_catalogue(Path({str(ROOT)!r}), ('lightgbm_trainer',)).get('trainer', 'lightgbm');"
        "c.build(c.params()); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
