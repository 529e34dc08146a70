"""Probes: what they find in models and data whose faults are known, and that they say nothing of those without."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from engine.evaluation.leakage import associate, category_rates, identity_of
from engine.features.compute import compute
from engine.features.encoders import FittedEncoders
from engine.features.expression import canonical, parse
from engine.features.program import compile_program
from engine.modelling import Matrix
from engine.nodes.matrix import LoadedModel
from engine.nodes.perturbed import Subject
from engine.nodes.probe_behaviour import Case, run_case
from engine.nodes.probe_leakage import Sides, _duplicates, _ids, _known_at, _proxies
from engine.spec import ExpressionFeature, LabelSpec, SourceSpec, SpineSpec, WindowFeature
from engine.spec.probes import BehaviourProbe

START = datetime(2024, 1, 1, tzinfo=UTC)
COLUMNS = {"id": "str", "who": "str", "km": "f64", "hour": "i64", "at": "timestamp", "late": "i64"}


class NoParams(msgspec.Struct, frozen=True):
    """None."""


def program():
    source = SourceSpec(
        kind="x", params=NoParams(), columns=COLUMNS, key=("who",), time="at", id="id", decimals={"km": 2}
    )
    features = {
        "far": ExpressionFeature(expr="km * 2"),
        "farther": ExpressionFeature(expr="far + 1"),
        "clock": ExpressionFeature(expr="hour"),
        "km_1d": msgspec.convert({"from": "rides", "of": "km", "agg": "sum", "window": "1d"}, WindowFeature),
    }
    spine = SpineSpec(source="rides", request={"who": "str", "km": "f64", "hour": "i64"})
    label = msgspec.convert({"from": "rides", "expr": "late", "maturity": "1h"}, LabelSpec)
    return compile_program(features, spine, label, {"rides": source}).program


def history(n=200):
    draw = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "id": [f"r{index}" for index in range(n)],
            "who": [f"d{index % 4}" for index in range(n)],
            "km": np.round(draw.exponential(10, n), 2),
            "hour": [index % 24 for index in range(n)],
            "at": [START + timedelta(hours=index) for index in range(n)],
            "late": draw.integers(0, 2, n),
        }
    ).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))


class Fake:
    """A model of columns `farther`, `clock`, `km_1d` in that order."""

    def __init__(self, predict):
        self._predict = predict

    def predict(self, x):
        return self._predict(np.nan_to_num(x))


def subject(predict, columns=("farther", "clock", "km_1d")):
    made = program()
    model = LoadedModel(made, FittedEncoders(), Fake(predict), {"columns": list(columns)}, Path())
    return Subject(model, {"rides": history().select(made.source_columns("rides"))}, None)


def test_rows(under):
    spine = history().select(
        pl.col("id").alias("row_id"),
        pl.col("at").alias("event_time"),
        "who",
        "km",
        "hour",
        pl.col("late").alias("label"),
    )
    return spine.hstack(compute(under.model.program, spine, under.history))


test_rows.__test__ = False


def case(test, where=None, change=None, **more):
    trees = {name: canonical(parse(text)) for name, text in (change or {}).items()}
    return Case(BehaviourProbe(test=test, **more), canonical(parse(where)) if where else None, trees)


def far_is_risky(x):
    return 1 / (1 + np.exp(-(x[:, 0] - 20) / 10))


def test_direction_through_the_program():
    under = subject(far_is_risky)
    rows = test_rows(under)
    up = run_case(case("dir", change={"km": "km + 10"}, direction="up", by=1e-9), under, rows)
    assert (up["rows"], up["failed"]) == (200, 0)
    down = run_case(case("dir", change={"km": "km + 10"}, direction="down"), under, rows)
    assert down["failed"] == down["rows"] == 200
    assert len(down["failing"]) == 20
    assert len(down["minimised"]) == 3
    worst = down["failing"][0]
    assert worst["after"] > worst["before"]
    assert worst["change"]["km"][1] == pytest.approx(worst["change"]["km"][0] + 10)


def test_a_feature_is_given_and_what_follows_from_it_is_computed():
    under = subject(far_is_risky)
    found = run_case(case("dir", change={"far": "far + 30"}, direction="up", by=1e-9), under, test_rows(under))
    assert found["failed"] == 0  # the model sees `farther`, which is made of `far`
    windows = run_case(case("inv", change={"km_1d": "km_1d + 30"}), under, test_rows(under))
    assert windows["failed"] == 0  # and does not look at the window


def test_invariance_finds_the_one_field_that_matters():
    under = subject(lambda x: np.where(x[:, 1] == 13, 0.9, 0.1))  # a model with something against one o'clock
    change = {"km": "km + 1", "hour": "CASE WHEN hour = 13 THEN 14 ELSE hour END"}
    found = run_case(case("inv", change=change, tolerance=0.05), under, test_rows(under))
    assert found["failed"] == found["matched"] // 24 == 8
    small = found["minimised"][0]
    assert set(small["change"]) == {"hour"}, "the change of km was not needed"
    assert small["matters"] == {"hour": 13, "event_time": small["matters"]["event_time"]}
    assert set(small["usual"]) == {"who", "km"}
    assert (small["before"], small["after"]) == (0.9, 0.1)


def test_minimum_functionality_on_found_and_on_written_rows():
    under = subject(far_is_risky)
    found = run_case(case("mft", where="km > 25", at_least=0.9), under, test_rows(under))
    assert found["failed"] == 0
    assert 0 < found["rows"] < 200
    none = run_case(case("mft", where="km > 1000", at_least=0.9), under, test_rows(under))
    assert (none["rows"], none["matched"]) == (0, 0)
    written = (
        {"who": "d1", "km": 50.0, "hour": 3, "event_time": "2024-01-03T00:00:00Z"},
        {"km": 0.5, "event_time": "2024-01-03T00:00:00Z"},
    )
    made = run_case(case("mft", rows=written, at_least=0.5), under, test_rows(under))
    assert (made["rows"], made["failed"]) == (2, 1)
    assert made["failing"][0]["row_id"] == "rows.1"
    assert made["failing"][0]["request"]["hour"] is None


def test_predictions_that_are_no_numbers_fail_every_test():
    under = subject(lambda x: np.full(len(x), np.nan))
    for probe in (case("mft", where="km > 5", at_most=2), case("inv", change={"km": "km + 1"}, tolerance=9)):
        found = run_case(probe, under, test_rows(under))
        assert found["failed"] == found["rows"] == found["not_finite"] > 0
        assert found["failing"][0]["after"] is None


def test_a_change_that_changes_nothing_shows_nothing():
    under = subject(far_is_risky)
    found = run_case(case("inv", change={"hour": "hour"}), under, test_rows(under))
    assert (found["rows"], found["unchanged"], found["matched"]) == (0, 200, 200)


def sides(train, test, names=("a",), categorical=()):
    under = subject(far_is_risky, names)
    matrices = [
        Matrix(
            frame.select(names).cast(pl.Float64).to_numpy(),
            frame["label"].cast(pl.Float64).to_numpy(),
            names,
            categorical,
        )
        for frame in (train, test)
    ]
    return Sides(under.model, train, test, *matrices, train["event_time"].dt.epoch("us").cast(pl.Float64).to_numpy())


def test_duplicates_across_the_split():
    rows = test_rows(subject(far_is_risky))
    clean = _duplicates(sides(rows.head(150), rows.tail(50), ("far",)))
    assert (clean["rows"], clean["same_moment"]) == (50, 0)
    copied = rows.head(10).with_columns(pl.lit("copy").alias("row_id"))
    assert _duplicates(sides(rows.head(150), pl.concat([rows.tail(50), copied]), ("far",)))["same_moment"] == 10
    moved = copied.with_columns(pl.col("event_time") + pl.duration(days=300))
    found = _duplicates(sides(rows.head(150), pl.concat([rows.tail(50), moved]), ("far",)))
    assert (found["same_moment"], found["alike"]) == (0, 10)


def test_a_proxy_and_an_id_are_found_and_honest_columns_are_not():
    draw = np.random.default_rng(1)
    n = 400
    label = draw.integers(0, 2, n)
    frame = pl.DataFrame(
        {
            "label": label,
            "event_time": [START + timedelta(minutes=index) for index in range(n)],
            "honest": label * 0.5 + draw.standard_normal(n),
            "proxy": label * 5 + draw.standard_normal(n),
            "serial": np.arange(n),
            "code": label * 10 + draw.integers(0, 3, n),  # a category: only its rate tells
        }
    )
    both = sides(frame.head(300), frame.tail(100), ("honest", "proxy", "serial", "code"), ("code",))
    strongest = {item["column"]: item for item in _proxies(both)["strongest"]}
    assert strongest["proxy"]["low"] > 0.95
    assert strongest["code"]["value"] == pytest.approx(1.0)
    assert strongest["honest"]["high"] < 0.85
    ids = _ids(both)["columns"]
    assert (ids["serial"]["distinct"], round(ids["serial"]["order"], 6)) == (1.0, 1.0)
    assert "honest" not in ids
    assert ids["code"]["distinct"] < 0.1


@pytest.mark.parametrize("values", [np.full(100, np.nan), np.ones(100), np.array([])])
def test_columns_without_a_value_are_no_crash(values):
    y = np.tile([0.0, 1.0], 50)[: len(values)]
    assert associate("x", values, y, 0.95) is None
    assert identity_of(values, y) is None
    if len(values):
        assert category_rates(values, y, values).tolist() == [0.5] * 100


def test_history_is_cut_by_time_and_by_what_was_available():
    made = program()
    frame = history()
    row = test_rows(subject(far_is_risky))[100]
    late = msgspec.structs.replace(made.sources["rides"], delay=5 * 3_600_000_000)
    assert _known_at(made.sources["rides"], frame, row).height == 100
    assert _known_at(late, frame, row).height == 96
