"""The trainer `lightgbm`: the proof of its determinism, early stopping, refusals, and its import."""

from __future__ import annotations

import builtins
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.components import load_catalogue
from engine.contracts import FitRequest, Matrix
from engine.errors import ConfigError, DataError, UnavailableError

ROOT = Path(__file__).resolve().parents[2]
COMPONENT = load_catalogue(ROOT, ("lightgbm_trainer",)).get("trainer", "lightgbm")


def build(**params):
    return COMPONENT.build(msgspec.convert(params, COMPONENT.params))


def trainer_module():
    build()
    return sys.modules["plumbline_plugins.lightgbm_trainer.trainer"]


def heavy_tailed(n=10_000, seed=2):
    """Labels over so many orders of magnitude that sums of gradients round: the order of summing shows."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 10))
    x[rng.random((n, 10)) < 0.05] = np.nan
    return Matrix(x, np.exp(3 * rng.standard_normal(n) + np.nan_to_num(x[:, 0])), tuple("abcdefghij"))


def request(task="regression", threads=1, progress=lambda *_: None):
    return FitRequest(task, 1, threads, progress)


def trees(text):
    return text.split(b"parameters:")[0]


def test_threads_change_no_bit_where_they_would_without_care(monkeypatch):
    """The control, training without `deterministic`, must differ: otherwise the data could not show anything.

    Two threads at most in the control: their two sums add up to the same in any order, those of four do not, and a
    control that varies from run to run may agree by chance. Four data sets, of which one is enough.
    """
    samples = [heavy_tailed(seed=seed) for seed in (2, 3, 4, 5)]
    trainer = build(rounds=20, early_stopping=0)

    def texts(rows, *threads):
        return {trees(trainer.train(rows, rows, request(threads=number))["model.txt"]) for number in threads}

    careful = [texts(rows, 1, 2, 4) for rows in samples]
    assert [len(found) for found in careful] == [1] * 4
    module = trainer_module()
    monkeypatch.setattr(module, "FIXED", {**module.FIXED, "deterministic": False})
    assert any(len(texts(rows, 1, 2)) > 1 for rows in samples)


def test_bagging_categories_and_early_stopping_are_invariant_too():
    rows = heavy_tailed(8000)
    rows.x[:, 9] = np.random.default_rng(0).integers(-1, 40, 8000)
    rows = Matrix(rows.x, rows.y, rows.names, ("j",))
    trainer = build(
        rounds=25,
        early_stopping=4,
        objective="regression_l1",
        params={"bagging_fraction": 0.6, "bagging_freq": 1, "feature_fraction": 0.7},
        extra={"extra_trees": True},
    )
    assert (
        len(
            {trainer.train(rows, heavy_tailed(3000, 2), request(threads=threads))["model.txt"] for threads in (1, 2, 4)}
        )
        == 1
    )


def test_text_says_nothing_of_threads_or_machine():
    text = (
        build(rounds=3, early_stopping=0)
        .train(heavy_tailed(2000), heavy_tailed(10), request(threads=2))["model.txt"]
        .decode()
    )
    assert "num_threads" not in text
    assert str(Path.home()) not in text
    assert "[force_col_wise: 1]" in text
    assert "[deterministic: 1]" in text


def test_another_seed_is_another_model():
    rows = heavy_tailed(3000)
    trainer = build(rounds=5, early_stopping=0, params={"bagging_fraction": 0.5, "bagging_freq": 1})
    found = {
        trees(trainer.train(rows, rows, FitRequest("regression", seed, 1, lambda *_: None))["model.txt"])
        for seed in (1, 2, 2**40)
    }
    assert len(found) == 3


def binary(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4))
    return Matrix(x, (x[:, 0] + rng.standard_normal(n) > 0.5) * 1.0, ("a", "b", "c", "d"))


@pytest.mark.parametrize("weights", [{}, {"is_unbalance": True}, {"scale_pos_weight": 3.0}])
def test_early_stopping_keeps_the_round_of_the_lowest_loss(weights):
    seen = []
    trainer = build(rounds=400, early_stopping=15, params=weights)
    files = trainer.train(binary(), binary(1000, 1), request("binary", progress=lambda *told: seen.append(told)))
    losses = [float(message.split()[-1]) for message, _, _ in seen]
    kept = files["model.txt"].count(b"\nTree=")
    assert kept == len(losses) - 15
    assert losses[kept - 1] == min(losses)
    assert len(losses) < 400


def test_without_early_stopping_all_rounds_and_no_validation():
    rows = binary()
    nothing = Matrix(rows.x[:0], rows.y[:0], rows.names)
    files = build(rounds=7, early_stopping=0).train(rows, nothing, request("binary"))
    assert files["model.txt"].count(b"\nTree=") == 7
    with pytest.raises(DataError, match="no validation rows to stop by") as caught:
        build().train(rows, nothing, request("binary"))
    assert "early_stopping=0" in caught.value.hint


def test_unlabelled_validation_rows_are_refused():
    rows = binary()
    with pytest.raises(DataError, match="2000 of 2000 validation rows have no finite label"):
        build().train(rows, Matrix(rows.x, np.full(2000, np.nan), rows.names), request("binary"))


@pytest.mark.parametrize("objective", ["regression", "regression_l1", "huber", "quantile", "poisson"])
def test_every_objective_learns(objective):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 2))
    rows = Matrix(x, np.exp(x[:, 0]) + 0.1 * rng.random(3000), ("a", "b"))
    trainer = build(rounds=40, early_stopping=5, objective=objective)
    predicted = trainer.load(trainer.train(rows, rows, request())).predict(x)
    assert np.corrcoef(predicted, rows.y)[0, 1] > 0.9


def test_objective_of_another_task_and_negative_counts():
    with pytest.raises(ConfigError, match=r"train\.objective.*not an objective for the task binary"):
        build(objective="huber").train(binary(), binary(), request("binary"))
    rows = heavy_tailed(2000)
    rows.y[4] = -1.0
    with pytest.raises(DataError, match="labels of 0 or more"):
        build(objective="poisson").train(rows, rows, request())


def test_three_rows_and_empty_columns():
    rows = binary()
    with pytest.raises(DataError, match="3 training rows are too few: one split needs 40"):
        build().train(Matrix(rows.x[:3], rows.y[:3], rows.names), rows, request("binary"))
    with pytest.raises(DataError, match="every feature is null in all 2000 training rows"):
        build().train(Matrix(np.full((2000, 4), np.nan), rows.y, rows.names), rows, request("binary"))
    rows.x[:, 2] = np.nan
    seen = []
    build(rounds=2).train(rows, rows, request("binary", progress=lambda *told: seen.append(told[0])))
    assert seen[0] == "warning: null in every training row: c"


def test_monotone_columns_are_monotone_and_unknown_ones_refused():
    rows = binary()
    trainer = build(rounds=60, monotone={"a": 1})
    predictor = trainer.load(trainer.train(rows, binary(1000, 1), request("binary")))
    line = np.zeros((200, 4))
    line[:, 0] = np.linspace(-3, 3, 200)
    assert (np.diff(predictor.predict(line)) >= 0).all()
    with pytest.raises(ConfigError, match=r"train\.monotone.*not a column"):
        build(monotone={"z": 1}).train(rows, rows, request("binary"))


def paths(node, seen=frozenset()):
    """Give the columns that are split on along each path from a root to a leaf."""
    if "split_feature" not in node:
        return {seen}
    below = seen | {node["split_feature"]}
    return paths(node["left_child"], below) | paths(node["right_child"], below)


def columns_together(files):
    import lightgbm

    trees = lightgbm.Booster(model_str=files["model.txt"].decode()).dump_model()["tree_info"]
    return {path for tree in trees for path in paths(tree["tree_structure"])}


def test_interactions_stay_within_their_groups_and_columns_in_no_group_alone():
    rows = binary()
    free = columns_together(build(rounds=20).train(rows, rows, request("binary")))
    assert any(len(path) > 2 for path in free), "without the constraint, columns do meet"
    held = columns_together(build(rounds=20, interaction=[["a", "b"]]).train(rows, rows, request("binary")))
    assert all(path <= {0, 1} or len(path) == 1 for path in held)
    assert {0, 1} in held
    with pytest.raises(ConfigError, match=r"train\.interaction.*not a column"):
        build(interaction=[["a", "z"]]).train(rows, rows, request("binary"))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"extra": {"num_threads": 4}}, "threads come from"),
        ({"extra": {"seed": 4}}, "the seed of a training is"),
        ({"extra": {"bagging_seed": 4}}, "the seed of a training is"),
        ({"extra": {"device_type": "gpu"}}, "deterministic"),
        ({"extra": {"force_row_wise": True}}, "deterministic"),
        ({"extra": {"use_quantized_grad": True}}, "deterministic"),
        ({"extra": {"data_sample_strategy": "goss"}}, "deterministic"),
        ({"extra": {"num_leaves": 4}}, "params.num_leaves"),
        ({"extra": {"nonsense": 4}}, "allowed: alpha"),
        ({"params": {"num_leaves": 1}}, ">= 2"),
        ({"params": {"learning_rate": 0}}, "> 0"),
        ({"params": {"learning_rate": "0.1"}}, "Expected `float`"),
        ({"params": {"bagging_fraction": 0.5}}, "bagging_freq"),
        ({"params": {"is_unbalance": True, "scale_pos_weight": 2.0}}, "set one of them"),
        ({"monotone": {"a": 2}}, "Invalid enum value 2"),
        ({"rounds": 0}, ">= 1"),
    ],
)
def test_parameters_are_checked_when_the_plan_is(params, words):
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.convert(params, COMPONENT.params)


def test_bad_extra_value_is_a_data_error():
    with pytest.raises(DataError, match="LightGBM refused"):
        build(extra={"path_smooth": -1.0}).train(binary(), binary(), request("binary"))


def test_import_without_pandas_and_with_what_is_there_already():
    code = (
        "import sys; from pathlib import Path; from engine.components import load_catalogue as l;"
        "c = l(Path('.'), ('lightgbm_trainer',)).get('trainer', 'lightgbm'); c.build(c.params());"
        "from plumbline_plugins.lightgbm_trainer.library import import_lightgbm as i; a = i(); assert i() is a;"
        "print([m for m in ('pandas', 'sklearn', 'dask', 'pyarrow') if m in sys.modules]);"
        "import pandas; print(pandas.DataFrame({'a': [1]}).shape)"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.split("\n")[:2] == ["[]", "(1, 1)"]


def test_a_missing_run_time_is_told_with_what_to_install(monkeypatch):
    build()
    library = sys.modules["plumbline_plugins.lightgbm_trainer.library"]
    for error, words in (
        (OSError("libgomp.so.1: cannot open shared object file"), "apt-get install libgomp1"),
        (ImportError("no module"), "pip install lightgbm"),
    ):
        monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
        monkeypatch.setattr(library.importlib, "import_module", lambda name, error=error: raise_(error))
        with pytest.raises(UnavailableError) as caught:
            library.import_lightgbm()
        assert words in caught.value.hint
        assert not any(type(finder).__name__ == "_Hider" for finder in sys.meta_path)


def raise_(error):
    raise error


def test_hiding_touches_no_other_thread():
    import threading

    build()
    library = sys.modules["plumbline_plugins.lightgbm_trainer.library"]
    outcome = {}

    def look(name):
        try:
            outcome[name] = builtins.__import__("colorsys").__name__
        except ImportError:
            outcome[name] = "hidden"

    sys.modules.pop("colorsys", None)
    with library._hidden({"colorsys"}):
        look("here")
        other = threading.Thread(target=look, args=("there",))
        other.start()
        other.join()
    assert outcome == {"here": "hidden", "there": "colorsys"}


def test_no_thread_gets_a_library_that_is_still_being_imported():
    code = (
        "import sys, threading; from pathlib import Path; from engine.components import load_catalogue as l;"
        "c = l(Path('.'), ('lightgbm_trainer',)).get('trainer', 'lightgbm'); c.build(c.params());"
        "from plumbline_plugins.lightgbm_trainer.library import import_lightgbm as i;"
        "first = threading.Thread(target=c.prewarm); first.start();"
        "[None for _ in iter(lambda: 'lightgbm' in sys.modules, True)];"
        "print(i().Dataset.__name__, i().basic.__name__); first.join()"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.stdout == "Dataset lightgbm.basic\n", finished.stderr


@pytest.mark.parametrize(
    ("task", "objective"), [("regression", None), ("binary", None), ("multiclass", None), ("regression", "poisson")]
)
def test_one_row_has_the_bits_that_it_has_among_many(task, objective):
    rng = np.random.default_rng(5)
    rows = heavy_tailed(3000)
    y = rng.integers(0, 3 if task == "multiclass" else 2, 3000) * 1.0 if task != "regression" else np.abs(rows.y)
    x = np.column_stack([rows.x, rng.integers(-1, 9, 3000)])
    rows = Matrix(x, y, (*rows.names, "shop"), ("shop",))
    trainer = build(rounds=30, early_stopping=0, **({"objective": objective} if objective else {}))
    asked = FitRequest(task, 1, 1, lambda *_: None, classes=("a", "b", "c") if task == "multiclass" else ())
    predictor = trainer.load(trainer.train(rows, rows, asked))
    assert predictor._single is not None, (
        "this LightGBM hides the call for single rows: requests are slower than they need be"
    )
    many = predictor.predict(x)
    few = np.concatenate([predictor.predict(x[place : place + 7]) for place in range(0, 3000, 7)])
    assert few.tobytes() == many.tobytes()
    reversed_columns = np.asfortranarray(x[:20])
    assert predictor.predict(reversed_columns).tobytes() == many[:20].tobytes()


def test_threads_may_score_rows_at_once():
    rows = binary()
    trainer = build(rounds=30, early_stopping=0)
    predictor = trainer.load(trainer.train(rows, rows, request("binary")))
    many = predictor.predict(rows.x)

    def one(place):
        return predictor.predict(rows.x[place : place + 1])[0]

    with ThreadPoolExecutor(4) as pool:
        assert np.array(list(pool.map(one, range(2000)))).tobytes() == many.tobytes()
