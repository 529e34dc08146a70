"""A source's rows as declared, the training spine, and the fitted encoders."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import polars as pl
import pytest

from engine.errors import DataError
from engine.features.compute import compute, spine_of
from engine.features.encoders import FittedEncoders, encode, fit_encoders
from engine.features.program import compile_program, compile_source
from engine.features.sources import apply_source, ingest_source
from engine.features.timestamps import TIMESTAMP, moment_of
from engine.spec import Available, EncodedFeature, ExpressionFeature, LookupFeature, SourceSpec, SpineSpec


class Nowhere(msgspec.Struct, frozen=True):
    pass


COLUMNS = {"id": "str", "at": "timestamp", "amt": "f64", "n": "i64", "ok": "bool", "k": "str"}


def source(**changes: Any) -> SourceSpec:
    spec = SourceSpec(
        kind="x",
        params=Nowhere(),
        columns=COLUMNS,
        key=("k",),
        time="at",
        id="id",
        decimals={"amt": 2, "third": 1},
        derive={"third": "amt / 3", "big": "n > 1"},
        where="k <> 'drop'",
    )
    return msgspec.structs.replace(spec, **changes)


RAW = {
    "id": ["a", "b", "c", "d", "e"],
    "at": ["2013-01-01T05:00:00Z", "2013-01-01 05:00:00.25", "2013-01-02", "soon", None],
    "amt": ["1.005", "nan", "-0.0", "1e300", "x"],
    "n": ["1", "2.5", None, "3", "99999999999999999999"],
    "ok": ["true", "F", "maybe", "1", "0"],
    "k": ["x", "y", "x", "drop", None],
    "unused": [1, 2, 3, 4, 5],
}


def test_rows_are_cast_derived_filtered_and_counted() -> None:
    made = ingest_source(compile_source("s", source()), pl.DataFrame(RAW))
    frame = made.frame
    assert frame.columns == [*COLUMNS, "third", "big"]
    assert frame["id"].to_list() == ["a", "b", "c"]
    assert frame.schema["at"] == TIMESTAMP
    assert frame["at"].dt.epoch("us").to_list() == [
        1357016400 * 10**6,
        1357016400 * 10**6 + 250_000,
        moment_of("2013-01-02"),
    ]
    assert frame["amt"].to_list() == [1.0, None, 0.0]
    assert math.copysign(1, frame["amt"].to_list()[2]) == 1.0
    assert frame["third"].to_list() == [0.3, None, 0.0]
    assert frame["ok"].to_list() == [True, False, None]
    assert frame["n"].to_list() == [1, None, None]
    assert made.rows_read == 5
    assert made.not_castable == {"at": 1, "amt": 2, "n": 2, "ok": 1}
    assert made.not_quantisable == {"amt": 1}


def test_typed_columns_and_chunks_give_the_same_rows() -> None:
    typed = pl.DataFrame(
        {
            "id": [1, 2, 3],
            "at": [date(2013, 1, 1), date(2013, 1, 2), None],
            "amt": [math.nan, math.inf, 0.125],
            "n": [1.0, 2.5, math.nan],
            "ok": [1, 0, 7],
            "k": ["x", "y", "z"],
        }
    )
    program = compile_source("s", source(columns={**COLUMNS}))
    whole = ingest_source(program, typed)
    assert whole.not_finite == {"amt": 2, "n": 1}
    assert whole.frame["amt"].to_list() == [None, None, 0.12]
    assert whole.frame["n"].to_list() == [1, None, None]
    assert whole.frame["ok"].to_list() == [True, False, None]
    assert whole.frame["id"].to_list() == ["1", "2", "3"]
    parts = pl.concat([apply_source(program, typed[index : index + 1]) for index in range(3)])
    assert parts.equals(whole.frame)
    assert apply_source(program, typed.lazy()).equals(whole.frame)
    again = apply_source(compile_source("s", source()), whole.frame)
    assert again.equals(whole.frame), "ingesting what was ingested changes nothing"
    naive = typed.with_columns(pl.lit(datetime(2013, 1, 1, tzinfo=UTC).replace(tzinfo=None)).alias("at"))
    zoned = typed.with_columns(pl.lit(datetime(2013, 1, 1, tzinfo=UTC)).dt.convert_time_zone("Asia/Tokyo").alias("at"))
    assert apply_source(program, naive).equals(apply_source(program, zoned))


def test_missing_and_impossible_columns_are_refused() -> None:
    program = compile_source("s", source())
    with pytest.raises(DataError, match="no column amt; found"):
        apply_source(program, pl.DataFrame(RAW).drop("amt"))
    with pytest.raises(DataError, match="cannot be read as timestamp"):
        apply_source(program, pl.DataFrame(RAW).with_columns(at=pl.lit(5)))


HISTORY = pl.DataFrame(
    {
        "id": ["a", "b", "b", "c", "c", None],
        "at": pl.Series([10, 5, 5, 7, 7, 1]).cast(TIMESTAMP),
        "amt": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "n": [1, 2, 3, 4, 5, 6],
        "ok": [True, None, False, True, True, True],
        "k": ["x", "y", "y", "x", None, "x"],
        "seen": pl.Series([10, 3, 4, 9, 8, 1]).cast(TIMESTAMP),
    }
)


def versioned() -> SourceSpec:
    return source(
        columns={**COLUMNS, "seen": "timestamp"}, derive={}, decimals={}, where=None, available=Available(column="seen")
    )


def test_the_spine_has_each_row_as_known_at_its_time() -> None:
    spine = SpineSpec(source="s", request={"k": "str", "n": "i64", "amt": "f64"}, where="amt < 100")
    program = compile_program({}, spine, None, {"s": versioned()}).program
    made = spine_of(program, {"s": HISTORY})
    assert made.columns == ["row_id", "event_time", "k", "n", "amt"]
    assert made.rows() == spine_of(program, {"s": HISTORY.reverse()}).rows()
    assert made.drop("event_time").rows() == [("b", "y", 3, 3.0), ("c", None, 5, 5.0), ("a", "x", 1, 1.0)]
    assert spine_of(program, {"s": HISTORY}, as_of=7)["row_id"].to_list() == ["b", "c"]


def test_bad_frames_are_refused() -> None:
    spine = SpineSpec(source="s", request={"k": "str"})
    program = compile_program({"n": LookupFeature(lookup="s.n")}, spine, None, {"s": versioned()}).program
    asked = pl.DataFrame({"event_time": pl.Series([9]).cast(TIMESTAMP), "k": ["x"]})
    assert compute(program, asked, {"s": HISTORY}).rows() == [(4,)]
    with pytest.raises(DataError, match="no history of source `s`"):
        compute(program, asked, {})
    with pytest.raises(DataError, match="spine: no column k"):
        compute(program, asked.drop("k"), {"s": HISTORY})
    with pytest.raises(DataError, match="expected"):
        compute(program, asked.with_columns(k=pl.lit(1.5)), {"s": HISTORY})
    with pytest.raises(DataError, match="no event_time"):
        compute(program, asked.with_columns(event_time=pl.lit(None, dtype=TIMESTAMP)), {"s": HISTORY})
    assert compute(program, asked[:0], {"s": HISTORY}).shape == (0, 1)
    assert compute(program, asked, {"s": HISTORY[:0]}).rows() == [(None,)]


def test_static_lookups_ignore_time() -> None:
    dimension = source(
        columns={"k": "str", "n": "i64"}, derive={}, decimals={}, where=None, time=None, id=None, static=True
    )
    spine = SpineSpec(source="s", request={"k": "str"})
    features = {"n": LookupFeature(lookup="d.n", default=-1), "up": ExpressionFeature(expr="n + 1")}
    program = compile_program(features, spine, None, {"s": versioned(), "d": dimension}).program
    asked = pl.DataFrame({"event_time": pl.Series([0, 1, 2]).cast(TIMESTAMP), "k": ["x", None, "z"]})
    rows = pl.DataFrame({"k": ["y", "x", "x", None], "n": [1, 2, 3, 4]})
    assert (
        compute(program, asked, {"d": rows}).rows()
        == compute(program, asked, {"d": rows.reverse()}).rows()
        == [(3, 4), (-1, 0), (-1, 0)]
    )


def test_encoders() -> None:
    features = {
        "vocab": EncodedFeature(encode="k", min_count=2, unknown=-9),
        "share": EncodedFeature(encode="k", encoder="frequency"),
        "flag": ExpressionFeature(expr="n > 1"),
        "text": ExpressionFeature(expr="k || '!'"),
        "text_ix": EncodedFeature(encode="text"),
        "when": EncodedFeature(encode="event_time"),
    }
    program = compile_program(
        features, SpineSpec(source="s", request={"k": "str", "n": "i64"}), None, {"s": versioned()}
    ).program
    asked = pl.DataFrame(
        {
            "event_time": pl.Series([1, 1, 2, 3, 4, 5]).cast(TIMESTAMP),
            "k": ["b", "a", "c", "b", "a", None],
            "n": [1, 2, 3, 4, 5, None],
        }
    )
    frame = pl.concat([asked, compute(program, asked, {})], how="horizontal")
    fitted = fit_encoders(program, frame)
    assert fitted == fit_encoders(program, frame.reverse())
    assert fitted == FittedEncoders.from_json(json.loads(json.dumps(fitted.to_json())))
    made = encode(program, fitted, frame)
    assert made.columns == ["vocab", "share", "flag", "text_ix", "when"]
    assert made["vocab"].to_list() == [1, 0, -9, 1, 0, -9]
    assert made["share"].to_list() == [2 / 6, 2 / 6, 1 / 6, 2 / 6, 2 / 6, -1.0]
    assert made["text_ix"].to_list() == [1, 0, 2, 1, 0, -1]
    assert made["when"].to_list() == [0, 0, 1, 2, 3, 4]
    for index in range(frame.height):
        assert encode(program, fitted, frame[index : index + 1]).equals(made[index : index + 1])
    unseen = frame[:1].with_columns(k=pl.lit("zz"), text=pl.lit("zz!"))
    assert encode(program, fitted, unseen).row(0)[:2] == (-9, -1.0)
    few = fit_encoders(program, frame.select("k"))
    assert few.encoders.keys() == {"vocab", "share"}
    assert encode(program, few, frame.select("k")).columns == ["vocab", "share"]
    with pytest.raises(DataError, match="encodes `text`"):
        encode(program, fitted, frame.drop("text"))


def test_moments() -> None:
    naive = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    assert moment_of(5) == moment_of("1970-01-01T00:00:00.000005Z") == 5
    assert moment_of("1970-01-01T01:00:00+01:00") == moment_of(naive) == 0
