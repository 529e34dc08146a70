"""Every trainer goes through every check of its kind."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.components import load_catalogue
from engine.contracts import FitRequest, Matrix
from engine.errors import DataError, IntegrityError

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = load_catalogue(
    ROOT, ("lightgbm_trainer", "baselines", "sklearn_trainer", "xgboost_trainer", "catboost_trainer")
)
NAMES = CATALOGUE.names("trainer")
ESTIMATORS = ("LogisticRegression", "HistGradientBoostingClassifier", "Ridge")
# A trainer of trainers goes through every check with some of its estimators.
KINDS = (*(name for name in NAMES if name != "sklearn"), *(f"sklearn:{name}" for name in ESTIMATORS))
UNWEIGHTED: set[str] = set()
SUPPORTED: dict[str, tuple[str, ...]] = {
    f"sklearn:{name}": ("regression",) if name == "Ridge" else ("binary", "multiclass") for name in ESTIMATORS
}
TASKS = ("binary", "multiclass", "regression", "quantile", "ranking")
CASES = [(kind, task) for kind, task in itertools.product(KINDS, TASKS) if task in SUPPORTED.get(kind, TASKS)]
CLASSES, LEVELS = ("high", "low", "mid"), (0.1, 0.5, 0.9)
PARAMS = {
    "lightgbm": {
        "rounds": 12,
        "early_stopping": 5,
        "params": {"bagging_fraction": 0.7, "bagging_freq": 1, "feature_fraction": 0.8},
    },
    "xgboost": {"rounds": 12, "early_stopping": 5, "params": {"subsample": 0.7, "min_child_weight": 20}},
    "sklearn:HistGradientBoostingClassifier": {"params": {"max_iter": 10}},
    "catboost": {"rounds": 30, "early_stopping": 5, "params": {"depth": 4}},
}


def build(kind, **params):
    name, _, estimator = kind.partition(":")
    component = CATALOGUE.get("trainer", name)
    own = {"estimator": estimator} if estimator else {}
    return component.build(msgspec.convert({**PARAMS.get(kind, {}), **own, **params}, component.params))


def matrix(task, n=600, seed=0):
    """Numbers, nulls, a constant column, an empty column, and a category with the code -1 for unknown."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 6))
    x[rng.random((n, 6)) < 0.1] = np.nan
    x[:, 3], x[:, 4], x[:, 5] = 2.5, np.nan, rng.integers(-1, 6, n)
    signal = np.nan_to_num(x[:, 0]) + 0.5 * np.nan_to_num(x[:, 1]) + 0.4 * (x[:, 5] == 2)
    noise = np.exp(2 * rng.standard_normal(n)) if task in ("regression", "quantile") else rng.standard_normal(n)
    group = None
    match task:
        case "binary":
            y = (signal + noise > 0.5) * 1.0
        case "multiclass":
            y = np.digitize(signal + noise, [-0.5, 0.8]).astype(float)
        case "ranking":
            y = np.digitize(signal + 0.5 * noise, [0.0, 0.8, 1.6]).astype(float)
            group = rng.permutation(np.arange(n) // 12)
        case _:
            y = signal * 3 + noise
    return Matrix(x, y, ("a", "b", "odd: name", "constant", "empty", "kind_ix"), ("kind_ix",), group=group)


def request(task, threads=1, progress=lambda *_: None, seed=3):
    classes, levels = CLASSES if task == "multiclass" else (), LEVELS if task == "quantile" else ()
    return FitRequest(task, seed, threads, progress, classes=classes, quantiles=levels)


def shape(task, n):
    return {"multiclass": (n, 3), "quantile": (n, 3)}.get(task, (n,))


def fit(kind, task, threads=1, **params):
    return build(kind, **params).train(matrix(task), matrix(task, 300, 1), request(task, threads))


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_same_bytes_for_any_threads_and_for_the_same_seed(kind, task):
    assert len({tuple(sorted(fit(kind, task, threads).items())) for threads in (1, 2, 2, 3)}) == 1


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_one_row_gets_the_bits_of_many(kind, task):
    trainer = build(kind)
    predictor = trainer.load(fit(kind, task))
    x = matrix(task, 500, 2).x
    x[:6, 0] = [np.nan, 1e300, -1e300, 0.0, -0.0, 1e-310]
    whole = predictor.predict(x)
    assert whole.shape == shape(task, 500)
    assert whole.dtype == np.float64
    assert np.isfinite(whole).all()
    for index in (*range(20), 499):
        assert predictor.predict(x[index : index + 1]).tobytes() == whole[index : index + 1].tobytes()
    for size in (7, 64, 101):
        parts = [predictor.predict(x[start : start + size]) for start in range(0, 500, size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert predictor.predict(np.asfortranarray(x)).tobytes() == whole.tobytes()
    assert predictor.predict(x[::2]).tobytes() == whole[::2].tobytes()
    if task in ("binary", "multiclass"):
        assert ((whole >= 0) & (whole <= 1)).all()
    if task == "multiclass":
        assert whole.sum(axis=1) == pytest.approx(np.ones(500), abs=1e-9)
    if task == "quantile":
        assert (np.diff(whole, axis=1) >= 0).all()


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_no_rows_and_the_wrong_width(kind, task):
    predictor = build(kind).load(fit(kind, task))
    assert predictor.predict(np.empty((0, 6))).shape == shape(task, 0)
    for wrong in (np.zeros((2, 5)), np.zeros((2, 7)), np.zeros(6)):
        with pytest.raises(DataError, match="6 columns"):
            predictor.predict(wrong)


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_a_loaded_model_is_the_files_alone(kind, task):
    files = fit(kind, task)
    assert all(isinstance(content, bytes) for content in files.values())
    x = matrix(task, 50, 4).x
    other = build(kind)  # a fresh trainer knows nothing but the files
    assert other.load(dict(files)).predict(x).tobytes() == build(kind).load(files).predict(x).tobytes()
    assert set(other.importance(files)) == set(matrix(task).names)
    assert all(np.isfinite(value) and value >= 0 for value in other.importance(files).values())


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_what_matters_is_said_to_matter(kind, task):
    importance = build(kind).importance(fit(kind, task))
    if kind != "majority":
        assert max(importance, key=importance.get) in ("a", "b", "kind_ix")
        assert importance["constant"] == importance["empty"] == 0


@pytest.mark.parametrize(("kind", "task"), CASES)
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda m: some(m, 0), "0 training rows are too few"),
        (lambda m: some(m, 1), "1 training rows are too few"),
        (
            lambda m: replace(m, y=np.where(np.arange(600) == 5, np.nan, m.y)),
            "1 of 600 training rows have no finite label",
        ),
        (lambda m: replace(m, y=np.where(np.arange(600) == 5, np.inf, m.y)), "no finite label"),
        (lambda m: replace(m, y=np.ones(600)), "one class only|the same label everywhere"),
    ],
)
def test_rows_that_teach_nothing_are_refused(kind, task, bad, words):
    with pytest.raises(DataError, match=words) as caught:
        build(kind).train(bad(matrix(task)), matrix(task, 300, 1), request(task))
    assert caught.value.hint


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_three_rows_are_refused_or_learnt_from(kind, task):
    few = replace(some(matrix(task), 3), y=np.array([0.0, 1.0, 1.0]))
    try:
        files = build(kind).train(few, matrix(task, 300, 1), request(task))
    except DataError as error:
        assert error.hint
    else:
        assert np.isfinite(build(kind).load(files).predict(matrix(task, 20, 1).x)).all()


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_unseen_categories_and_new_nulls_are_scored(kind, task):
    predictor = build(kind).load(fit(kind, task))
    x = matrix(task, 30, 5).x
    x[:10, 5], x[10:20] = 977.0, np.nan
    assert np.isfinite(predictor.predict(x)).all()


def some(m, n):
    return replace(m, x=m.x[:n], y=m.y[:n], group=None if m.group is None else m.group[:n])


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_weights_count_rows_and_all_alike_change_nothing(kind, task):
    """Four times the weight of all rows is no other model, to what rounding leaves; more weight on some rows is."""
    plain, held = matrix(task), matrix(task, 300, 1)
    x = matrix(task, 200, 2).x

    def scores(weight):
        own = replace(plain, weight=weight)
        other = replace(held, weight=None if weight is None else np.full(300, weight[0]))
        return build(kind).load(build(kind).train(own, other, request(task))).predict(x)

    if kind in ("linear", "majority"):
        assert scores(np.full(600, 4.0)) == pytest.approx(scores(None), rel=1e-3, abs=1e-3)
    if (kind, task) not in {("majority", "quantile"), ("majority", "ranking")} and kind not in UNWEIGHTED:
        assert not np.array_equal(scores(np.where(plain.y > np.median(plain.y), 5.0, 1.0)), scores(None))


@pytest.mark.parametrize("kind", [kind for kind, task in CASES if task == "binary"])
def test_a_binary_task_needs_binary_labels(kind):
    rows = matrix("binary")
    rows.y[7] = 2.0
    with pytest.raises(DataError, match="the label 2, and a binary task needs 0 or 1"):
        build(kind).train(rows, matrix("binary"), request("binary"))


@pytest.mark.parametrize("kind", [kind for kind, task in CASES if task == "regression"])
def test_labels_beyond_what_can_be_added_up_are_refused(kind):
    rows = matrix("regression")
    rows.y[:] = np.where(np.arange(600) % 2, 1.7e308, -1.7e308) + rows.y
    rows.y[:3] = 1.7e308
    with pytest.raises(DataError, match=r"beyond|too large") as caught:
        build(kind).train(rows, matrix("regression"), request("regression"))
    assert "rescale" in caught.value.hint


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_inputs_are_left_alone_and_progress_reaches_the_end(kind, task):
    train, validation = matrix(task), matrix(task, 300, 1)
    before = [array.tobytes() for array in (train.x, train.y, validation.x, validation.y)]
    seen = []
    build(kind).train(train, validation, request(task, progress=lambda *told: seen.append(told)))
    assert [array.tobytes() for array in (train.x, train.y, validation.x, validation.y)] == before
    fractions = [done for _, _, done in seen if done is not None]
    assert fractions
    assert fractions == sorted(fractions)
    assert all(isinstance(message, str) and message for message, _, _ in seen)
    assert 0 < fractions[-1] <= 1


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_nothing_is_printed(kind, task, capfd):
    build(kind).load(fit(kind, task)).predict(matrix(task).x)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_another_model_are_refused(kind):
    for files in ({}, {"model.json": b"{}"}, {"model.json": b"\xff"}, {"model.txt": b"tree"}):
        with pytest.raises(IntegrityError):
            build(kind).load(files)


@pytest.mark.parametrize("kind", NAMES)
def test_unknown_parameters_are_refused(kind):
    component = CATALOGUE.get("trainer", kind)
    with pytest.raises(msgspec.ValidationError, match="unknown field `rouns`"):
        msgspec.convert({"rouns": 3}, component.params)
    assert msgspec.json.schema(component.params)
    assert component.doc
    assert component.source_digest


def test_planning_imports_nothing_heavy_and_blas_threads_change_nothing():
    """In fresh interpreters: the import of the plugins alone, and the linear trainer under 1 and 4 BLAS threads."""
    light = (
        "import sys; from pathlib import Path; from engine.components import load_catalogue as l;"
        "l(Path('.'), ('lightgbm_trainer', 'baselines', 'splits', 'gates_standard'));"
        "print([m for m in ('numpy', 'polars', 'lightgbm', 'scipy', 'pandas') if m in sys.modules])"
    )
    assert run(light) == "[]"
    fitted = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_trainers_contract as t, hashlib;"
        "print(hashlib.sha256(b''.join(t.fit('linear', k)['model.json'] for k in t.TASKS)).hexdigest())"
    )
    assert run(fitted, OPENBLAS_NUM_THREADS="1") == run(fitted, OPENBLAS_NUM_THREADS="4")


def run(code, **environment):
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return finished.stdout.strip()
