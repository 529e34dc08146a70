"""One request through the prepared program has the bits of the reference, and of `compute` over all rows at once."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from engine.errors import DataError
from engine.features.compute import compute
from engine.features.encoders import fit_encoders
from engine.features.events import Events, FrameReader, Join, Key
from engine.features.prepared import prepare
from engine.features.prepared_encoders import prepare_columns
from engine.features.program import compile_program
from engine.nodes.matrix import to_matrix
from engine.spec import SpineSpec
from tests.features import worlds as w

COMPARED = {"values": 0}


def answered(scene: w.Scene, reader: Any) -> list[tuple[Any, ...]]:
    prepared = prepare(scene.program)
    rows = [prepared.features(asked, reader) for asked in scene.asked]
    COMPARED["values"] += sum(map(len, rows))
    return [tuple(map(w.bits_of, row)) for row in rows]


@settings(max_examples=w.examples(150), deadline=None)
@given(w.scenes())
def test_requests_are_the_truth(scene: w.Scene) -> None:
    reader = FrameReader(scene.program, scene.history, scene.world.as_of)
    for _ in range(2):  # the second time, what is derived from the events is there already
        assert answered(scene, reader) == scene.truth()


def test_features_over_features_and_keys_that_are_features() -> None:
    features = {
        "code": {"expr": "COALESCE(s, '') || k"},
        "same": {"from": "ev", "of": "v", "agg": ["sum", "max"], "window": "20us", "decimals": 2, "on": {"s": "code"},
                 "by": ["s"]},
        "tier": {"lookup": "dim.d", "on": {"k": "code"}, "default": 1},
        "share": {"expr": "same_sum / NULLIF(same_max, 0) + tier", "default": -1},
    }  # fmt: skip
    features["same_{agg}"] = features.pop("same")
    program = compile_program(
        w.typed(features | w.WHOLE), SpineSpec(source="ev", request=w.REQUEST), None, w.sources_of(w.Setting())
    ).program
    chance = random.Random(3)
    rows = [w.crowded(chance, 0) for _ in range(300)]
    for row in rows:
        row["s"] = chance.choice(["x", "ax", "by", None])
    dimension = [{"k": key, "d": number, "c": 1} for key, number in (("ax", 2.5), ("x", -0.0))]
    history = {"ev": w.to_frame(rows, w.EVENT), "dim": w.to_frame(dimension, w.DIMENSION)}
    asked = [{"event_time": at, "row_id": at, **{n: rows[at][n] for n in w.REQUEST}} for at in range(40)]
    spine = w.to_frame(asked, {"event_time": "timestamp", "row_id": "i64", **w.REQUEST})
    reader, prepared = FrameReader(program, history), prepare(program)
    made = [tuple(map(w.bits_of, prepared.features(row, reader))) for row in asked]
    assert made == w.bits(compute(program, spine, history))


def test_a_reader_may_give_more_than_counts() -> None:
    """Rows that lie in the future, are not known yet, or are older than the reach change nothing."""

    class Generous:
        def __init__(self, inner: FrameReader) -> None:
            self.inner = inner
            self.asked: list[tuple[Join, Key, int]] = []

        def read(self, join: Join, key: Key, at: int) -> Events:
            self.asked.append((join, key, at))
            return self.inner.read(join, key, at)

    chance = random.Random(5)
    rows = [w.crowded(chance, 0) for _ in range(60)]
    features = {"n_{agg}": {"from": "ev", "of": "n", "agg": ["count", "last"], "window": "3us"}}
    program = compile_program(
        w.typed(features), SpineSpec(source="ev", request=w.REQUEST), None, w.sources_of(w.Setting())
    ).program
    reader = Generous(FrameReader(program, {"ev": w.to_frame(rows, w.EVENT)}))
    prepared = prepare(program)
    assert [join.reach for join in prepared.joins] == [3]
    prepared.features({"event_time": 9, "k": "x"}, reader)
    assert [(key, at) for _, key, at in reader.asked] == [(("x",), 9)]
    prepared.features({"event_time": 9, "k": None}, reader)
    assert len(reader.asked) == 1  # a null key has no events


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"event_time": None}, "no event_time"),
        ({"event_time": 1, "v": "x"}, "`v` is 'x', and a number"),
        ({"event_time": 1, "n": 1.5}, "`n` is 1.5, and a whole number"),
        ({"event_time": 1, "n": 2**63}, "a whole number"),
        ({"event_time": 1, "b": 1}, "true or false"),
        ({"event_time": True}, "`event_time` is True"),
    ],
)
def test_a_wrong_value_is_refused_by_name(row: dict[str, Any], words: str) -> None:
    program = compile_program(
        w.typed({"twice": {"expr": "v * 2"}}),
        SpineSpec(source="ev", request=w.REQUEST),
        None,
        w.sources_of(w.Setting()),
    ).program
    with pytest.raises(DataError, match=words):
        prepare(program).features(row, FrameReader(program, {}))


def test_say_how_much_was_compared(capsys: Any) -> None:
    with capsys.disabled():
        if w.DEEP:
            print(f"\ncompared {COMPARED['values']:,} values of single requests; 0 differ")
    assert COMPARED["values"] > 0


@settings(max_examples=w.examples(60), deadline=None)
@given(w.questions(0, 40), w.questions(0, 12))
def test_a_model_sees_the_same_columns_of_a_request(training: list[w.Row], asked: list[w.Row]) -> None:
    features = {
        f"{column}_{encoder}": {"encode": column, "with": encoder}
        for encoder, columns in (("vocab", "snbk"), ("frequency", "snb"), ("bins", "vn"), ("standardise", "vnb"))
        for column in columns
    } | {"twice": {"expr": "v * 2"}, "flag": {"expr": "n > 0"}}
    program = compile_program(
        w.typed(features), SpineSpec(source="asked", request=w.REQUEST), None, w.sources_of(w.Setting())
    ).program
    types = {"event_time": "timestamp", **w.REQUEST}
    frames = [w.to_frame(rows, types) for rows in (training, asked)]
    tables = [frame.hstack(compute(program, frame, {})) for frame in frames]
    fitted = fit_encoders(program, tables[0])
    columns = list(features)
    truth = to_matrix(program, fitted, tables[1], columns).x
    prepared = prepare(program)
    numbers = prepare_columns(prepared, fitted, columns)
    inputs = [numbers(prepared.row(row, FrameReader(program, {}))) for row in asked]
    made = np.array(inputs, dtype=np.float64).reshape(len(asked), len(columns))
    assert [list(map(w.bits_of, row)) for row in made.tolist()] == [list(map(w.bits_of, row)) for row in truth.tolist()]
