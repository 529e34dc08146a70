"""Analyses on rows whose truth is known: what was planted is found, and what is not there is not."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace

import msgspec
import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from engine.analysis_contracts import Exhibit, HeldOut, Judgement, Scored
from engine.components import load_catalogue
from engine.config.loading import shipped_plugins
from engine.errors import DataError
from engine.modelling import Matrix, Target
from engine.project import shipped
from engine.spec.analysis import Fit, Subject

SEARCHES = int(os.environ.get("PLUMBLINE_SEARCHES", "10"))
DAY = 86_400_000_000


@pytest.fixture(scope="module")
def catalogue():
    return load_catalogue(shipped("."), shipped_plugins())


def build(catalogue, kind, **params):
    component = catalogue.get("analysis", kind)
    declared = msgspec.convert(params, component.params)
    return component.build(declared), declared


def look(analysis, shown):
    """Examine; what is found can be written down."""
    found = analysis.examine(shown)
    assert msgspec.json.decode(msgspec.json.encode(found))["summary"] == found.summary
    return found


def scored(y, prediction, moments=None, facts=None, ids=None):
    n = len(y)
    return Scored(
        y=np.asarray(y, dtype=np.float64), prediction=np.asarray(prediction),
        ids=np.array([f"r{i}" for i in range(n)] if ids is None else ids),
        moments=np.arange(n) if moments is None else moments, cluster=None, group=None, facts=facts or {"rows": n},
    )  # fmt: skip


def exhibit(columns, fits=None, held=None, predictor=None, metric="log_loss"):
    return Exhibit(
        Subject(columns, {name: name for name in columns}, "binary"), Target("binary"), Judgement(metric, 200, 0.95, 0), fits or {},
        lambda *_: None, (lambda part: held) if held else None, predictor, predictor,
    )  # fmt: skip


class Fake:
    """A model that is a function, with contributions when it is linear."""

    def __init__(self, weights):
        self._weights = np.asarray(weights)

    def predict(self, x):
        return 1 / (1 + np.exp(-(np.nan_to_num(x) @ self._weights)))


class Explained(Fake):
    def contributions(self, x):
        return np.nan_to_num(x) * self._weights


# --- weak slices ---------------------------------------------------------------------------------------------------


def weak_world(seed, planted, n=8000):
    """Labels that follow `x`, which the model knows; where the plant holds they are noise that it does not expect."""
    draw = np.random.default_rng(seed)
    rows = pl.DataFrame({
        "city": draw.choice(["a", "b", "c", "d", "e"], n), "hour": draw.integers(0, 24, n),
        "x": draw.normal(size=n), "noise": draw.normal(size=n), "km": np.where(draw.random(n) < 0.1, np.nan, draw.exponential(10, n)),
    })  # fmt: skip
    p = 1 / (1 + np.exp(-2.5 * rows["x"].to_numpy()))
    y = (draw.random(n) < p).astype(float)
    if planted:
        where = ((rows["city"] == "c") & (rows["hour"] >= 18)).to_numpy()
        y[where] = draw.random(int(where.sum())) < 1 - p[where]
    matrix = Matrix(rows.select("x", "noise").to_numpy(), y, ("x", "noise"))
    return HeldOut(rows, matrix, scored(y, p))


def test_a_planted_weak_slice_is_found_and_confirmed(catalogue):
    analysis, _ = build(catalogue, "weak_slices")
    found = look(analysis, exhibit(("x", "noise"), held=weak_world(1, planted=True)))
    first = found.facts["confirmed"][0]
    assert "city = c" in first
    assert "hour" in first
    best = found.facts["slices"][0]
    assert best["gap"] > 0.5
    assert best["p_holm"] < 1e-6
    assert best["skill"] < 0, "the model is worse there than a constant"
    assert f"{found.facts['tried']:,} slices" in found.notes[0]
    assert found.facts["search_rows"] + found.facts["proof_rows"] == 8000


def hard_world(seed, n=8000):
    """In city `a` the label is a coin for any model; in city `b` the model misses what the baseline knows."""
    draw = np.random.default_rng(seed)
    rows = pl.DataFrame({"city": draw.choice(list("abcde"), n), "x": draw.normal(size=n), "noise": draw.normal(size=n)})
    city = rows["city"].to_numpy()
    p = np.where(city == "a", 0.5, 1 / (1 + np.exp(-2.5 * rows["x"].to_numpy())))
    y = (draw.random(n) < p).astype(float)
    missed = np.where(city == "b", 1 / (1 + np.exp(-0.3 * rows["x"].to_numpy())), p)
    matrix = Matrix(rows.select("x", "noise").to_numpy(), y, ("x", "noise"))
    return HeldOut(rows, matrix, scored(y, missed), baseline=p)


def test_what_is_hard_for_the_baseline_too_is_no_weakness(catalogue):
    by_loss, _ = build(catalogue, "weak_slices", measure="loss", depth=1)
    by_skill, _ = build(catalogue, "weak_slices", depth=1)
    shown = exhibit(("x", "noise"), held=hard_world(1))
    assert "city = a" in look(by_loss, shown).facts["confirmed"], "the loss is largest where nobody knows"
    confirmed = look(by_skill, shown).facts["confirmed"]
    assert confirmed[0] == "city = b"
    assert "city = a" not in confirmed


@pytest.mark.parametrize("task", ["multiclass", "regression", "quantile", "ranking"])
def test_excess_loss_adds_up_to_nothing_over_all_rows(catalogue, task):
    excess = importlib.import_module(type(build(catalogue, "weak_slices")[0]).__module__).excess
    draw = np.random.default_rng(3)
    n, classes, levels = 400, ("x", "y", "z"), (0.1, 0.9)
    y = draw.integers(0, 3, n) * 1.0
    guess = {"multiclass": draw.dirichlet(np.ones(3), n), "quantile": np.sort(draw.normal(size=(n, 2)), axis=1)}
    shown = replace(
        exhibit(("a",)),
        target=Target(task, classes if task == "multiclass" else (), levels if task == "quantile" else ()),
    )
    seen = replace(scored(y, guess.get(task, draw.normal(size=n))), group=np.arange(n) // 10)
    found = excess(shown, HeldOut(pl.DataFrame(), Matrix(np.zeros((n, 1)), y, ("a",)), seen))
    assert found.shape == (n,)
    if task != "ranking":  # has no constant to be compared with
        assert abs(found.sum()) < 1e-9 * n
        assert found.std() > 0


def test_without_a_weak_slice_about_one_search_in_twenty_confirms_one(catalogue):
    analysis, _ = build(catalogue, "weak_slices", min_rows=60)
    confirmed = 0
    for seed in range(SEARCHES):
        held = weak_world(100 + seed, planted=False, n=2400)
        flat = replace(
            held.scored, prediction=np.full(2400, 0.5), y=np.random.default_rng(seed).integers(0, 2, 2400) * 1.0
        )
        noisy = replace(
            flat, prediction=np.clip(0.5 + 0.2 * np.random.default_rng(seed + 1).normal(size=2400), 0.02, 0.98)
        )
        confirmed += bool(
            look(analysis, exhibit(("x", "noise"), held=HeldOut(held.rows, held.matrix, noisy))).facts["confirmed"]
        )
    assert confirmed <= binom.ppf(0.999, SEARCHES, 0.05)


def test_a_bias_in_either_direction_is_found(catalogue):
    held = weak_world(2, planted=False)
    shifted = np.where(
        (held.rows["city"] == "d").to_numpy(), np.clip(held.scored.prediction + 0.2, 0, 1), held.scored.prediction
    )
    analysis, _ = build(catalogue, "weak_slices", measure="bias", depth=1)
    found = look(
        analysis,
        exhibit(("x", "noise"), held=HeldOut(held.rows, held.matrix, replace(held.scored, prediction=shifted))),
    )
    assert found.facts["confirmed"][0] == "city = d"


def test_clusters_stay_in_one_half_and_widen_the_errors(catalogue):
    held = weak_world(3, planted=True)
    cluster = np.repeat(np.arange(80), 100)
    analysis, _ = build(catalogue, "weak_slices")
    alone = look(analysis, exhibit(("x", "noise"), held=held)).facts
    together = look(
        analysis, exhibit(("x", "noise"), held=HeldOut(held.rows, held.matrix, replace(held.scored, cluster=cluster)))
    ).facts
    assert together["search_rows"] % 100 == 0
    assert together["confirmed"]
    assert alone["search_rows"] % 100 != 0


def test_too_few_rows_are_refused_in_words(catalogue):
    analysis, _ = build(catalogue, "weak_slices")
    with pytest.raises(DataError, match="too few to search one half"):
        look(analysis, exhibit(("x", "noise"), held=weak_world(4, planted=True, n=300)))


def test_searches_are_the_same_every_time(catalogue):
    analysis, _ = build(catalogue, "weak_slices", depth=3)
    one, other = (look(analysis, exhibit(("x", "noise"), held=weak_world(5, planted=True))) for _ in range(2))
    assert msgspec.json.encode(one) == msgspec.json.encode(other)


# --- importance ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["log_loss", "roc_auc"])
def test_a_useless_column_does_not_matter_and_a_used_one_does(catalogue, metric):
    held = weak_world(6, planted=False, n=4000)
    model = Fake([2.5, 0.0])
    analysis, _ = build(catalogue, "permutation")
    found = look(analysis, exhibit(("x", "noise"), held=held, predictor=model, metric=metric)).facts
    assert found["matters"] == ["x"]
    assert found["importance"]["x"] > 0.1
    assert found["importance"]["noise"] == 0


def test_shap_values_are_the_models_own(catalogue):
    held = weak_world(7, planted=False, n=4000)
    analysis, _ = build(catalogue, "shap", rows=500)
    found = look(analysis, exhibit(("x", "noise"), held=held, predictor=Explained([2.0, -0.5])))
    size = found.facts["mean_size"]
    assert size["x"] == pytest.approx(2.0 * np.sqrt(2 / np.pi), rel=0.1)
    assert found.facts["direction"] == {"x": pytest.approx(1.0), "noise": pytest.approx(-1.0)}
    assert found.n == 500
    dumb = look(analysis, exhibit(("x", "noise"), held=held, predictor=Fake([1.0, 0.0])))
    assert dumb.facts == {"available": False}


# --- refits --------------------------------------------------------------------------------------------------------


def fitted(y, logit, noise, seed, **more):
    draw = np.random.default_rng((seed, 7))
    return scored(y, 1 / (1 + np.exp(-(logit + noise * draw.normal(size=len(y))))), **more)


def test_ablation_tells_a_useful_a_harmful_and_a_useless_feature_apart(catalogue):
    analysis, params = build(catalogue, "ablation", seeds=2, margin=0.01)
    columns = ("useful", "harmful", "useless")
    subject = Subject(columns, {name: name for name in columns}, "binary")
    assert set(params.fits(subject)) == {f"{name}/{seed}" for name in ("all", *columns) for seed in (0, 1)}
    assert params.fits(subject)["useful/1"] == Fit(without=("useful",), seed=1, score="validation")
    draw = np.random.default_rng(0)
    logit = draw.normal(size=6000) * 2
    y = (draw.random(6000) < 1 / (1 + np.exp(-logit))).astype(float)
    noise = {"all": 1.0, "useful": 2.0, "harmful": 0.3, "useless": 1.0}
    fits = {f"{name}/{seed}": fitted(y, logit, size, seed) for name, size in noise.items() for seed in (0, 1)}
    found = look(analysis, exhibit(columns, fits=fits)).facts
    assert (found["matters"], found["harmful"], found["useless"]) == (["useful"], ["harmful"], ["useless"])


def test_ablation_by_declaration_leaves_families_out_together(catalogue):
    _, params = build(catalogue, "ablation", by="declaration", features=["amt_*"])
    subject = Subject(
        ("amt_1d", "amt_7d", "km"), {"amt_1d": "amt_{window}", "amt_7d": "amt_{window}", "km": "km"}, "binary"
    )
    fits = params.fits(subject)
    assert fits["amt_{window}/0"].without == ("amt_1d", "amt_7d")
    assert list(fits) == ["all/0", "amt_{window}/0"]


def test_a_learning_curve_says_whether_more_rows_help(catalogue):
    analysis, params = build(catalogue, "learning_curve")
    assert params.fits(Subject((), {}, "binary"))["1/0"].is_the_model
    draw = np.random.default_rng(0)
    logit = draw.normal(size=6000) * 2
    y = (draw.random(6000) < 1 / (1 + np.exp(-logit))).astype(float)
    noise = {"0.1": 3.0, "0.25": 2.0, "0.5": 1.2, "1": 0.5}
    fits = {
        f"{share}/{d}": fitted(y, logit, size, d, facts={"rows": int(1000 * float(share))})
        for share, size in noise.items()
        for d in ((0, 1) if share != "1" else (0,))
    }
    rising = look(analysis, exhibit((), fits=fits))
    assert rising.facts["more_helps"] is True
    assert [point.x for point in rising.charts[0].series[0].points] == [100, 250, 500, 1000]
    flat = {**fits, **dict.fromkeys(fits, fits["1/0"])}
    assert look(analysis, exhibit((), fits=flat)).facts["more_helps"] is False


# --- decay ---------------------------------------------------------------------------------------------------------


def ageing(loss_per_step, origins=6, seed=0, hard=(1.0,) * 6):
    """Fits whose noise grows with age; periods may be harder or easier for all of them alike."""
    draw = np.random.default_rng(seed)
    step, rows = 30 * DAY, 1200
    moments = np.concatenate([period * step + np.sort(draw.integers(0, step, rows)) for period in range(origins)])
    moments[-1] = origins * step - 1
    period = moments // step
    logit = draw.normal(size=len(moments)) * 2 * np.array(hard)[period]
    y = (draw.random(len(moments)) < 1 / (1 + np.exp(-logit))).astype(float)
    fits = {}
    for place in range(origins):
        chosen = period >= place
        age = (period - place)[chosen]
        noise = draw.normal(size=int(chosen.sum())) * (0.5 + loss_per_step * age)
        prediction = 1 / (1 + np.exp(-(logit[chosen] + noise)))
        fits[f"origin/{place}"] = scored(y[chosen], prediction, moments[chosen], ids=np.flatnonzero(chosen).astype(str))
    return fits


def test_a_planted_decay_is_found_and_gives_a_cadence(catalogue):
    analysis, params = build(catalogue, "decay", step="30d", tolerance=0.05)
    assert params.fits(Subject((), {}, "binary"))["origin/1"].split.params["horizon"] == "150d"
    found = look(analysis, exhibit((), fits=ageing(0.5))).facts
    assert found["ages_days"] == [30, 60, 90, 120, 150]
    assert found["surely_worse_days"] == 30
    assert 30 < found["cadence_days"] < 90
    assert found["loss"][-1] > found["loss"][0]


def test_hard_periods_do_not_look_like_age(catalogue):
    analysis, _ = build(catalogue, "decay", step="30d", tolerance=0.05)
    found = look(analysis, exhibit((), fits=ageing(0.0, hard=(2.0, 1.5, 1.0, 0.6, 0.3, 0.1)))).facts
    assert found["cadence_days"] is None
    assert found["surely_worse_days"] is None


# --- nested --------------------------------------------------------------------------------------------------------


def test_nested_cross_validation_reports_the_procedure_and_its_optimism(catalogue):
    analysis, params = build(catalogue, "nested_cv", grid={"params.num_leaves": [7, 31]}, horizon="30d", folds=3)
    fits = params.fits(Subject((), {}, "binary"))
    assert len(fits) == 3 * (2 * 2 + 1)
    inner, outer = fits["fold/1/0/0"], fits["outer/1"]
    assert inner.split.within == outer.split, "inner folds see nothing of the outer test"
    assert [candidate.proofs for candidate in outer.among] == [
        ("fold/1/0/0", "fold/1/0/1"),
        ("fold/1/1/0", "fold/1/1/1"),
    ]
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, 500).astype(float)
    done = {
        f"outer/{fold}": scored(
            y, np.full(500, 0.5), facts={"rows": 500, "chosen": {"params.num_leaves": 7}, "inner": 0.6}
        )
        for fold in range(3)
    }
    found = look(analysis, exhibit((), fits=done)).facts
    assert found["mean"] == pytest.approx(np.log(2))
    assert found["optimism"] == pytest.approx(np.log(2) - 0.6), "a lower loss was promised"


def test_inner_folds_of_entities_are_drawn_anew(catalogue):
    _, params = build(catalogue, "nested_cv", grid={"rounds": [5]}, by="row_id", folds=2, inner_folds=2)
    rows = pl.DataFrame({"row_id": [f"r{i}" for i in range(2000)]})
    for fit in params.fits(Subject((), {}, "binary")).values():
        left = rows
        if fit.split.within is not None:
            left = rows.filter(parts_of(catalogue, fit.split.within, rows) != "test")
        assert 0.15 < (parts_of(catalogue, fit.split, left) == "test").mean() < 0.25


def parts_of(catalogue, choice, rows):
    component = catalogue.get("splitter", choice.kind)
    return component.build(msgspec.convert(dict(choice.params), component.params)).split(rows, 0)


@pytest.mark.parametrize(
    ("kind", "params", "words"),
    [
        ("nested_cv", {"grid": {"a": [1]}}, "horizon"),
        ("nested_cv", {"grid": {"a": list(range(400))}, "by": "row_id"}, "500 at most"),
        ("learning_curve", {"shares": [0.5, 0.1, 1.0]}, "rise and end"),
        ("decay", {"step": "30d", "origins": 1}, ">= 2"),
    ],
)
def test_mistakes_are_said_before_anything_runs(catalogue, kind, params, words):
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.convert(params, catalogue.get("analysis", kind).params)
