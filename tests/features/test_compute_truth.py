"""The truth of design section 4, rules 1 to 11, as plain Python over lists, and `compute` against it, bit for bit."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.features.compute import compute
from engine.features.label import label_rows
from engine.features.program import FeatureProgram, compile_program
from engine.features.timestamps import TIMESTAMP
from engine.spec import Available, LabelSpec, LookupFeature, SourceSpec, SpineSpec, WindowFeature


class Nowhere(msgspec.Struct, frozen=True):
    """Parameters of a source that is never read here."""


Row = dict[str, Any]
COLUMNS = {"t": "timestamp", "a": "timestamp", "id": "i64", "k": "str", "j": "i64", "v": "f64", "n": "i64", "s": "str"}
DTYPES = {"timestamp": TIMESTAMP, "i64": pl.Int64, "str": pl.String, "f64": pl.Float64, "bool": pl.Boolean}
LIMIT = 2**50


# --- the reference -----------------------------------------------------------------------------------------------


def ordered(value: Any) -> tuple[bool, Any]:
    """Nulls first."""
    return (value is not None, 0 if value is None else value)


def content(row: Row) -> tuple[Any, ...]:
    return tuple(ordered(row[name]) for name in sorted(row))


def clean(row: Row) -> Row:
    """Rule 5: NaN and infinities are null; a negative zero is a zero."""
    return {
        key: (None if isinstance(x, float) and not math.isfinite(x) else x + 0.0 if isinstance(x, float) else x)
        for key, x in row.items()
    }


def visible(rows: Sequence[Row], at: int, as_of: int | None, source: SourceSpec, *, of_time: bool = True) -> list[Row]:
    """Rules 1 and 4: the rows that count at T, in total order. Each gets its availability under `@`."""
    delay = {"0s": 0, "2us": 2}[source.available.delay]
    known = []
    for row in map(clean, rows):
        available = row["a"] if source.available.column else (None if row["t"] is None else row["t"] + delay)
        if row["t"] is not None and available is not None and available <= at and (as_of is None or available <= as_of):
            known.append({"@": available, **row})
    if source.id:
        latest: dict[Any, Row] = {}
        for row in sorted(known, key=lambda row: (row["@"], row["t"], content(row))):
            latest[("null", id(row)) if row["id"] is None else row["id"]] = row
        known = list(latest.values())
    order = (
        (lambda r: (r["t"], ordered(r["id"]), content(r))) if source.id else (lambda r: (r["t"], r["@"], content(r)))
    )
    return sorted((row for row in known if not of_time or row["t"] < at), key=order)


def aggregate(agg: str, values: list[Any], decimals: int | None, type_: str) -> Any:
    """Rules 5 and 9 on the values of a window, in total order."""
    values = [x for x in values if x is not None]
    match agg:
        case "count":
            return len(values)
        case "n_distinct":
            return len(set(values))
        case "first" | "last":
            return None if not values else values[0 if agg == "first" else -1]
        case "min" | "max":
            return None if not values else (min if agg == "min" else max)(values)
    scale = 10.0 ** (decimals or 0)
    if any(isinstance(x, float) for x in values):
        values = [round(x * scale) for x in values if abs(x * scale) <= LIMIT + 1 and abs(round(x * scale)) <= LIMIT]
    n, total, squares = len(values), sum(values), sum(x * x for x in values)
    if agg == "sum":
        return total / scale if type_ == "f64" else (total if -(2**63) <= total < 2**63 else None)
    if agg == "mean":
        return float(total) / (n * scale) if n else None
    if n < 2:
        return None
    spread = n * squares - total * total
    made = math.sqrt(float(spread) / (float(n) * (float(n) - 1.0))) / scale
    exact = math.sqrt(Fraction(spread, n * (n - 1))) / scale
    assert made == pytest.approx(exact, rel=1e-15)
    return made


def reference(
    program: FeatureProgram, spine: list[Row], history: list[Row], source: SourceSpec, as_of: int | None
) -> list[Row]:
    made = []
    for asked in spine:
        at, result = asked["event_time"], {}
        rows = visible(history, at, as_of, source)
        for name in program.order:
            step: Any = program.by_name[name]
            match = [r for r in rows if all(r[c] is not None and r[c] == asked[f] for c, f in step.on)]
            if hasattr(step, "column"):
                last = match[-1] if match else None
                if last is not None and step.max_age is not None and at - last["t"] > step.max_age:
                    last = None
                value = last[step.column] if last is not None else None
                result[name] = step.default if value is None else value
                continue
            inside = [r for r in match if r["t"] >= at - step.window]
            if step.where is not None:
                inside = [r for r in inside if r["n"] is not None and r["n"] > 0]
            column = step.of.name if step.of is not None else None
            values = [r[column] if column else 1 for r in inside]
            value = aggregate(step.agg, values, step.decimals, step.type)
            quantised = step.agg in {"sum", "mean", "std"} and step.of_type == "f64"
            usable = [
                x for x in values if x is not None and not (quantised and abs(round(x * 10.0**step.decimals)) > LIMIT)
            ]
            if (step.empty is not None and (value is None or not usable) and step.agg != "sum") or (
                step.empty is not None and not usable
            ):
                value = step.empty
            result[name] = value
        made.append(result)
    return made


# --- random programs and histories -------------------------------------------------------------------------------

small_times = st.one_of(st.integers(0, 8), st.integers(0, 8), st.integers(0, 4).map(lambda x: x * 1_000_000 + 1))
keys = st.sampled_from(["x", "x", "x", "y", None])
floats = st.sampled_from(
    [None, 0.0, -0.0, 0.1, 0.125, -1.25, 99.995, 123456.789, -1e7, 1e12, 1e300, math.nan, math.inf, -math.inf]
)
integers = st.sampled_from([None, 0, 1, 2, -3, 7, 10**9, -(10**9), 2**53 + 1, 2**62, -(2**62), 2**63 - 1, -(2**63)])
event = st.fixed_dictionaries(
    {
        "t": st.one_of(small_times, small_times, st.none()),
        "a": st.one_of(small_times, small_times, st.none()),
        "id": st.one_of(st.integers(0, 3), st.integers(0, 100), st.none()),
        "k": keys,
        "j": st.sampled_from([0, 1, None]),
        "v": floats,
        "n": integers,
        "s": st.sampled_from(["", "a", "b", "é", None]),
    }
)
question = st.fixed_dictionaries(
    {"event_time": small_times, "k": keys, "j": st.sampled_from([0, 1, 2, None]), "row_id": st.integers(0, 6)}
)
windows = st.sampled_from(["1us", "2us", "5us", "20us", "3s", "1w"])


@st.composite
def window_feature(draw: Any) -> WindowFeature:
    agg = draw(st.sampled_from(["count", "sum", "mean", "std", "min", "max", "first", "last", "n_distinct"]))
    numeric = agg in {"sum", "mean", "std"}
    of = draw(st.sampled_from(["v", "n"] if numeric else ["v", "n", "s"] + ([None] if agg == "count" else [])))
    empty = draw(st.sampled_from([None, None, {"v": -5.0, "n": -5, "s": "none", None: -5}[of]]))
    if agg in {"count", "n_distinct"} and empty is not None:
        empty = -5
    if agg in {"mean", "std"} and empty is not None:
        empty = -5.0
    return WindowFeature(
        source="ev",
        of=of,
        agg=agg,
        window=draw(windows),
        by=draw(st.sampled_from([("k",), ("k", "j"), (), ("j",)])),
        where=draw(st.sampled_from([None, None, "n > 0"])),
        decimals=draw(st.sampled_from([0, 2, 5])) if numeric and of == "v" else None,
        empty=empty,
    )


@st.composite
def lookup_feature(draw: Any) -> LookupFeature:
    column = draw(st.sampled_from(["v", "n", "s"]))
    default = draw(st.sampled_from([None, {"v": -5.0, "n": -5, "s": "none"}[column]]))
    return LookupFeature(lookup=f"ev.{column}", max_age=draw(st.one_of(st.none(), windows)), default=default)


@st.composite
def source_spec(draw: Any) -> SourceSpec:
    available = draw(
        st.sampled_from([Available(), Available(delay="2us"), Available(column="a"), Available(column="a")])
    )
    id_ = draw(st.sampled_from(["id", "id", None]))
    return SourceSpec(kind="none", params=Nowhere(), columns=COLUMNS, key=("k",), time="t", id=id_, available=available)


SPINE = SourceSpec(
    kind="asked",
    params=Nowhere(),
    columns={"event": "timestamp", "row": "i64", "k": "str", "j": "i64"},
    key=("k",),
    time="event",
    id="row",
)
# Reads every column, so that ties are broken by the whole row in the program as they are in the reference.
WHOLE = {
    f"all_{name}": WindowFeature(source="ev", of=name, agg="last", window="1us")
    for name in ("t", "a", "id", "k", "j", "v", "n", "s")
}


def compiled(source: SourceSpec, features: list[Any], label: LabelSpec | None = None) -> FeatureProgram:
    named = {f"f{index}": feature for index, feature in enumerate(features)}
    spine = SpineSpec(source="asked", request={"k": "str", "j": "i64"})
    return compile_program({**named, **WHOLE}, spine, label, {"ev": source, "asked": SPINE}).program


def to_frame(rows: Sequence[Row], types: dict[str, str]) -> pl.DataFrame:
    columns = []
    for name, type_ in types.items():
        values = [row[name] for row in rows]
        plain = pl.Series(name, values, dtype=pl.Int64 if type_ == "timestamp" else DTYPES[type_], strict=True)
        columns.append(plain.cast(DTYPES[type_]))
    return pl.DataFrame(columns)


def bits(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    plain = frame.with_columns(pl.selectors.datetime().dt.epoch("us"))
    return [tuple(struct.pack("<d", x) if isinstance(x, float) else (type(x), x) for x in row) for row in plain.rows()]


def expected_bits(rows: list[Row], order: Sequence[str]) -> list[tuple[Any, ...]]:
    return [
        tuple(struct.pack("<d", row[n]) if isinstance(row[n], float) else (type(row[n]), row[n]) for n in order)
        for row in rows
    ]


ASKED = {"event_time": "timestamp", "k": "str", "j": "i64", "row_id": "i64"}
worlds = st.tuples(
    source_spec(),
    st.lists(st.one_of(window_feature(), window_feature(), lookup_feature()), min_size=1, max_size=6),
    st.lists(event, max_size=20),
    st.lists(question, min_size=1, max_size=6),
    st.one_of(st.none(), st.none(), small_times),
    st.randoms(use_true_random=False),
)


@settings(max_examples=150, deadline=None)
@given(worlds)
def test_compute_is_the_truth_in_batch_alone_permuted_and_chunked(world: Any) -> None:
    source, features, rows, asked, as_of, chance = world
    program = compiled(source, features)
    history, spine = {"ev": to_frame(rows, COLUMNS)}, to_frame(asked, ASKED)
    truth = expected_bits(reference(program, asked, rows, source, as_of), program.order)
    assert bits(compute(program, spine, history, as_of)) == truth
    for index in range(len(asked)):
        assert bits(compute(program, spine[index : index + 1], history, as_of)) == truth[index : index + 1]
    shuffled = chance.sample(rows, len(rows))
    parts = [to_frame([row], COLUMNS) for row in shuffled]
    chunked = {"ev": pl.concat(parts, rechunk=False) if parts else to_frame([], COLUMNS)}
    order = chance.sample(range(len(asked)), len(asked))
    pieces = pl.concat([spine[index : index + 1] for index in order], rechunk=False)
    assert bits(compute(program, pieces, chunked, as_of)) == [truth[index] for index in order]


@settings(max_examples=40, deadline=None)
@given(worlds)
def test_the_future_changes_nothing(world: Any) -> None:
    source, features, rows, asked, as_of, chance = world
    program = compiled(source, features)
    now = chance.choice(asked)
    spine = to_frame([now], ASKED)
    whole = compute(program, spine, {"ev": to_frame(rows, COLUMNS)}, as_of)

    def known(row: Row) -> bool:
        available = (
            row["a"]
            if source.available.column
            else None
            if row["t"] is None
            else row["t"] + {"0s": 0, "2us": 2}[source.available.delay]
        )
        return available is not None and available <= now["event_time"]

    past = [row for row in rows if known(row)]
    assert bits(compute(program, spine, {"ev": to_frame(past, COLUMNS)}, as_of)) == bits(whole)


questions_of_labels = st.tuples(
    source_spec(),
    st.sampled_from([None, "0s", "3us", "2s"]),
    st.sampled_from(["0s", "2us", "4s"]),
    st.sampled_from(["id", "k"]),
)


@settings(max_examples=60, deadline=None)
@given(questions_of_labels, st.lists(event, max_size=20), st.lists(question, min_size=1, max_size=8), small_times)
def test_labels_are_the_truth(setting: Any, rows: Any, asked: Any, now: int) -> None:
    source, horizon, maturity, by = setting
    source = msgspec.structs.replace(source, id="id")
    on = {} if by == "id" else {"k": "k"}
    program = compiled(source, [], LabelSpec(source="ev", expr="n > 0", on=on, horizon=horizon, maturity=maturity))
    made = label_rows(program, to_frame(asked, ASKED), {"ev": to_frame(rows, COLUMNS)}, now)
    sizes = {None: None, "0s": 0, "2us": 2, "3us": 3, "2s": 2_000_000, "4s": 4_000_000}
    events = visible(rows, now, None, source, of_time=False)
    for question_, answer in zip(asked, made.rows.iter_rows(named=True), strict=True):
        at = question_["event_time"]
        mine = [
            r for r in events if r[by] is not None and r[by] == (question_["row_id"] if by == "id" else question_["k"])
        ]
        inside = [r for r in mine if r["t"] >= at and (horizon is None or r["t"] <= at + sizes[horizon])]
        value = None if not inside or inside[0]["n"] is None else inside[0]["n"] > 0
        reason = "usable"
        if at + sizes[maturity] > now:
            reason = "immature"
        elif not mine:
            reason = "missing"
        elif not inside:
            reason = "outside_horizon"
        elif value is None:
            reason = "null"
        assert (answer["label"], answer["reason"], answer["usable"]) == (value, reason, reason == "usable")
        if inside:
            final = max(at + sizes[maturity], inside[0]["@"])
            assert pl.Series([answer["label_known_at"]]).dt.epoch("us")[0] == final
    assert sum(made.counts.values()) == len(asked)
    assert made.counts["usable"] == made.rows["usable"].sum()


def test_large_random_history_agrees_with_a_batch_of_one() -> None:
    chance = random.Random(7)
    rows = [
        {
            "t": chance.randrange(10**9),
            "a": chance.randrange(2 * 10**9),
            "id": i // 2,
            "k": chance.choice("xyz"),
            "j": i % 3,
            "v": chance.gauss(0, 1e4),
            "n": chance.randrange(-(2**40), 2**40),
            "s": chance.choice("abcd"),
        }
        for i in range(4000)
    ]
    asked = [
        {"event_time": chance.randrange(2 * 10**9), "k": chance.choice("xyzw"), "j": i % 4, "row_id": i}
        for i in range(2000)
    ]
    source = SourceSpec(
        kind="n", params=Nowhere(), columns=COLUMNS, key=("k",), time="t", id="id", available=Available(column="a")
    )
    features = [
        WindowFeature(
            source="ev",
            of=of,
            agg=agg,
            window=window,
            decimals=2 if of == "v" and agg in {"sum", "mean", "std"} else None,
        )
        for of in ("v", "n")
        for agg in ("sum", "mean", "std", "min", "last", "n_distinct")
        for window in ("60s", "1h")
    ]
    program = compiled(source, features)
    history, spine = {"ev": to_frame(rows, COLUMNS)}, to_frame(asked, ASKED)
    batch = compute(program, spine, history)
    some = chance.sample(range(2000), 12)
    truth = expected_bits(reference(program, [asked[i] for i in some], rows, source, None), program.order)
    assert bits(batch[some]) == truth
    assert [bits(compute(program, spine[i], history))[0] for i in some[:4]] == truth[:4]


def at_times(
    times: Sequence[int], rows: list[Row], *features: Any, source: SourceSpec | None = None
) -> list[tuple[Any, ...]]:
    """The features of key `x` at each time."""
    plain = {"a": 0, "id": None, "k": "x", "j": 0, "v": None, "n": None, "s": None}
    asked = [{"event_time": time, "k": "x", "j": 0, "row_id": index} for index, time in enumerate(times)]
    program = compiled(source or msgspec.structs.replace(SOURCE, available=Available()), list(features))
    made = compute(program, to_frame(asked, ASKED), {"ev": to_frame([{**plain, **row} for row in rows], COLUMNS)})
    return made.select(f"f{index}" for index in range(len(features))).rows()


SOURCE = SourceSpec(
    kind="n", params=Nowhere(), columns=COLUMNS, key=("k",), time="t", id="id", available=Available(column="a")
)


def test_a_window_includes_its_start_and_not_its_end() -> None:
    count = WindowFeature(source="ev", agg="count", window="5us")
    assert at_times([99, 100, 101, 104, 105, 106], [{"t": 100}], count) == [(0,), (0,), (1,), (1,), (1,), (0,)]


def test_a_row_counts_from_the_moment_it_is_available() -> None:
    count = WindowFeature(source="ev", agg="count", window="1h")
    last = LookupFeature(lookup="ev.n")
    rows = [{"t": 100, "a": 110, "n": 1}]
    assert at_times([101, 109, 110], rows, count, last, source=SOURCE) == [(0, None), (0, None), (1, 1)]


def test_a_later_version_replaces_an_earlier_one_from_the_moment_it_is_available() -> None:
    features = [
        WindowFeature(source="ev", of="n", agg="sum", window="1h"),
        WindowFeature(source="ev", agg="count", window="1h"),
        LookupFeature(lookup="ev.n"),
    ]
    rows = [{"t": 100, "a": 105, "id": 1, "n": 7}, {"t": 100, "a": 110, "id": 1, "n": 9}]
    truth = [(0, 0, None), (7, 1, 7), (7, 1, 7), (9, 1, 9), (9, 1, 9)]
    assert at_times([104, 105, 109, 110, 111], rows, *features, source=SOURCE) == truth
    assert at_times([104, 105, 109, 110, 111], rows[::-1], *features, source=SOURCE) == truth
    moved = [rows[0], {"t": 200, "a": 110, "id": 1, "n": 9, "k": "y"}]
    assert at_times([109, 110, 201], moved, *features, source=SOURCE) == [(7, 1, 7), (0, 0, None), (0, 0, None)]


def test_max_age_is_inclusive() -> None:
    fresh = LookupFeature(lookup="ev.n", max_age="5us", default=-1)
    assert at_times([100, 101, 105, 106], [{"t": 100, "n": 3}], fresh) == [(-1,), (3,), (3,), (-1,)]


def test_overlapping_rows_of_one_value_are_one_value() -> None:
    distinct = WindowFeature(source="ev", of="s", agg="n_distinct", window="10us")
    rows = [
        {"t": 100, "s": "a"},
        {"t": 103, "s": "a"},
        {"t": 104, "s": "b"},
        {"t": 130, "s": "a"},
        {"t": 131, "s": None},
    ]
    found = [row[0] for row in at_times([100, 101, 104, 105, 110, 111, 113, 114, 115, 131, 140, 141], rows, distinct)]
    assert found == [0, 1, 1, 2, 2, 2, 2, 1, 0, 1, 1, 0]


def test_sums_beyond_64_bits_are_exact_or_null() -> None:
    rows = [{"t": time, "n": 2**62} for time in range(4)]
    features = [WindowFeature(source="ev", of="n", agg=agg, window="1h") for agg in ("sum", "mean", "std")]
    assert at_times([1, 2, 4], rows, *features) == [(2**62, 2.0**62, None), (None, 2.0**62, 0.0), (None, 2.0**62, 0.0)]
    money = [{"t": time, "v": value} for time, value in enumerate((0.1, 0.2, -0.3, 1e12, -1e12))]
    total = WindowFeature(source="ev", of="v", agg="sum", window="1h", decimals=2)
    assert at_times([3, 5], money, total) == [(0.0,), (0.0,)]


def test_a_late_row_within_the_stay_of_another_of_its_value() -> None:
    distinct = WindowFeature(source="ev", of="s", agg="n_distinct", window="10us")
    rows = [{"t": 100, "a": 100, "s": "a"}, {"t": 98, "a": 105, "s": "a"}, {"t": 99, "a": 103, "s": "a"}]
    found = at_times([100, 101, 104, 106, 108, 109, 110, 111], rows, distinct, source=SOURCE)
    assert [row[0] for row in found] == [0, 1, 1, 1, 1, 1, 1, 0]
