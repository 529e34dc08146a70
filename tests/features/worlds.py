"""Random programs over random histories, for the property tests: as YAML says them, and as the reference reads them."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl
from hypothesis import settings
from hypothesis import strategies as st

from engine.features.program import CompileResult, compile_program
from engine.features.timestamps import TIMESTAMP
from engine.spec import FEATURE_KINDS, Available, FeatureSpec, LabelSpec, SourceSpec, SpineSpec
from tests.features import reference as ref

DEEP = settings.get_current_profile_name() == "deep"
DTYPES = {"timestamp": TIMESTAMP, "i64": pl.Int64, "str": pl.String, "f64": pl.Float64, "bool": pl.Boolean}
Row = dict[str, Any]


def examples(quick: int) -> int:
    """How many examples: few by default, many in a deep run."""
    return max(quick, settings.default.max_examples) if DEEP and settings.default is not None else quick


class Nowhere(msgspec.Struct, frozen=True):
    """Parameters of a source that is never read here."""


EVENT = {
    "t": "timestamp",
    "a": "timestamp",
    "id": "i64",
    "k": "str",
    "j": "i64",
    "v": "f64",
    "n": "i64",
    "s": "str",
    "b": "bool",
}
REQUEST = {"k": "str", "j": "i64", "v": "f64", "n": "i64", "s": "str", "b": "bool"}
DIMENSION = {"k": "str", "d": "f64", "c": "i64"}
ASKED = {"event": "timestamp", "row": "i64", **REQUEST}


# --- expressions, and what they mean -----------------------------------------------------------------------------


def total(function: Callable[..., Any], *names: str) -> Callable[[Row], Any]:
    """Null in, null out."""

    def mean(row: Row) -> Any:
        values = [row[name] for name in names]
        return None if any(value is None for value in values) else function(*values)

    return mean


def small(value: int) -> int | None:
    return value if -(2**63) <= value < 2**63 else None


def either(left: Any, right: Any) -> Any:
    """Three-valued OR."""
    return True if left is True or right is True else None if left is None or right is None else False


def divide(left: Any, right: Any) -> Any:
    return None if right == 0 else float(left) / float(right)


EXPRESSIONS: dict[str, ref.Expression] = {
    item.text: item
    for item in (
        *(ref.Expression(name, type_, lambda row, name=name: row[name]) for name, type_ in EVENT.items()),
        ref.Expression("n + j", "i64", total(lambda n, j: small(n + j), "n", "j")),
        ref.Expression("n % 7", "i64", total(lambda n: n - 7 * math.trunc(ref.Fraction(n, 7)), "n")),
        ref.Expression("v * 3.0", "f64", total(lambda v: v * 3.0, "v")),
        ref.Expression("n / 3", "f64", total(lambda n: divide(n, 3), "n")),
        ref.Expression("v / NULLIF(j, 0)", "f64", total(divide, "v", "j")),
        ref.Expression("CAST(n > 0 AS bigint)", "i64", total(lambda n: int(n > 0), "n")),
        ref.Expression("COALESCE(s, '?')", "str", lambda row: "?" if row["s"] is None else row["s"]),
        ref.Expression("s || k", "str", total(lambda s, k: s + k, "s", "k")),
        ref.Expression("n > 0", "bool", total(lambda n: n > 0, "n")),
        ref.Expression(
            "s = 'a' OR v < 1",
            "bool",
            lambda r: either(total(lambda s: s == "a", "s")(r), total(lambda v: v < 1, "v")(r)),
        ),
        ref.Expression("v IS NOT NULL", "bool", lambda row: row["v"] is not None),
        ref.Expression("v * 2.0 + 1.5", "f64", total(lambda v: v * 2.0 + 1.5, "v")),
    )
}
OF = {
    "f64": ("v", "v", "v * 3.0", "n / 3", "v / NULLIF(j, 0)"),
    "i64": ("n", "n", "n + j", "n % 7", "CAST(n > 0 AS bigint)"),
    "str": ("s", "COALESCE(s, '?')", "s || k"),
    "bool": ("b", "n > 0", "v IS NOT NULL"),
    "timestamp": ("a", "t"),
}
WHERE = (None, None, None, "n > 0", "s = 'a' OR v < 1", "b")
EMPTY: dict[str, Any] = {"f64": -5.5, "i64": -5, "str": "none", "bool": True, "timestamp": None}


# --- rows --------------------------------------------------------------------------------------------------------

LEAP_DAY = 1_709_164_800_000_000  # 2024-02-29T00:00:00Z
DAY = 86_400_000_000
BASES = (0, LEAP_DAY, LEAP_DAY + DAY - 3, -2_208_988_800_000_000, 4_102_444_799_999_998)
offsets = st.one_of(
    st.integers(0, 8),
    st.integers(0, 8),
    st.integers(-3, 4).map(lambda x: x * 1_000_000 + 1),
    st.integers(-2, 2).map(lambda x: x * DAY),
)
askings = st.one_of(offsets, st.integers(6, 14), st.integers(6, 14), st.just(DAY + 8))
keys = st.sampled_from(["x", "x", "x", "x", "x", "x", "y", "", None])
doubles = st.one_of(
    st.sampled_from([None, 0.0, -0.0, 0.1, 0.125, -1.25, 99.995, 123456.789, -1e7, 1e12, 1e300, -1e300, 5e-324]),
    st.sampled_from([math.nan, math.inf, -math.inf, 2.0**50, 2.0**50 + 1, 2.675, 1.005, 0.5, 1.5, 2.5]),
    st.floats(-1e6, 1e6),
)
integers = st.one_of(
    st.sampled_from([None, 0, 1, 2, -3, 7, 10**9, -(10**9), 2**53 + 1, 2**62, -(2**62), 2**63 - 1, -(2**63)]),
    st.integers(-4, 4),
)
texts = st.sampled_from(["", "a", "a", "b", "é", "\U0001f600", "\uffff", None])
flags = st.sampled_from([True, False, None])
components = {
    "k": keys,
    "j": st.sampled_from([0, 0, 0, 0, 1, None]),
    "v": doubles,
    "n": integers,
    "s": texts,
    "b": flags,
}


@st.composite
def events(draw: Any, base: int, most: int) -> list[Row]:
    moments = st.one_of(offsets, offsets, offsets, st.none()).map(lambda x: None if x is None else base + x)
    one = st.fixed_dictionaries(
        {
            "t": moments,
            "a": moments,
            "id": st.one_of(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 3), st.none()),
            **components,
        }
    )
    crowd = random.Random(draw(st.integers(0, 2**32)))
    return draw(st.lists(one, max_size=most)) + [crowded(crowd, base) for _ in range(draw(st.sampled_from([0, 8, 30])))]


def crowded(chance: random.Random, base: int) -> Row:
    """One more row of the same few keys, moments and values, so that windows are full and ties are many."""
    return {
        "t": base + chance.randrange(13),
        "a": base + chance.randrange(16),
        "id": chance.choice([chance.randrange(10**6), chance.randrange(10**6), chance.randrange(6)]),
        "k": chance.choice("xxxy"),
        "j": chance.choice([0, 0, 1]),
        "v": chance.choice([0.5, -1.25, 2.675, 99.995, 1e12, None, chance.gauss(0, 100), math.nan]),
        "n": chance.choice([1, 2, -3, 7, 2**62, None, chance.randrange(-(10**6), 10**6)]),
        "s": chance.choice(["a", "b", "", "é", None]),
        "b": chance.choice([True, False, None]),
    }


@st.composite
def questions(draw: Any, base: int, most: int) -> list[Row]:
    one = st.fixed_dictionaries(
        {"event_time": askings.map(lambda x: base + x), "row_id": st.integers(0, 6), **components}
    )
    return draw(st.lists(one, min_size=1, max_size=most))


dimensions = st.lists(st.fixed_dictionaries({"k": keys, "d": doubles, "c": integers}), max_size=4)


# --- programs ----------------------------------------------------------------------------------------------------

widths = st.sampled_from(["1us", "3us", "6us", "20us", "20us", "3s", "1d", "2d", "52w"])
SUMMED = ("sum", "mean", "std")
edges = st.lists(
    st.sampled_from([-1e9, -5.0, -1.25, 0.0, 0.1, 1.0, 7.0, 99.995, 1e9, 2.0**53, 2.0**62]),
    min_size=1,
    max_size=4,
    unique=True,
).map(sorted)


@st.composite
def aggregates(draw: Any, type_: str) -> list[Any]:
    """Several aggregates that a type admits, names and mappings mixed."""
    any_type = ["count", "min", "max", "first", "last", "n_distinct"]
    shares = st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 0.9, 0.999, 1.0])
    mappings = [
        st.builds(lambda q: {"quantile": {"q": q}}, shares),
        st.builds(lambda q: {"quantile": {"q": q}}, st.lists(shares, min_size=1, max_size=2, unique=True)),
        st.builds(lambda k: {"last_k": {"k": k}}, st.integers(1, 3)),
        st.builds(lambda k: {"top_k": {"k": k}}, st.integers(1, 3)),
    ]
    if type_ in {"i64", "f64"}:
        mappings.append(st.builds(lambda e: {"histogram": {"edges": e}}, edges))
    if type_ in {"i64", "f64", "bool"}:
        any_type += SUMMED
        mappings.append(
            st.builds(
                lambda prior, weight: {"smoothed_mean": {"prior": prior, "weight": weight}},
                st.sampled_from([0.0, 0.01, -3.7]),
                st.sampled_from([0.5, 1.0, 20.0]),
            )
        )
    entry = st.one_of(st.sampled_from(any_type), st.sampled_from(any_type), *mappings)
    return draw(st.lists(entry, min_size=1, max_size=3, unique_by=lambda x: x if isinstance(x, str) else next(iter(x))))


@st.composite
def window_features(draw: Any, *, include_request: bool) -> tuple[str, Row]:
    type_ = draw(st.sampled_from(["f64", "f64", "i64", "i64", "str", "bool", "timestamp", "rows"]))
    feature: Row = {"from": "ev", "window": draw(st.lists(widths, min_size=1, max_size=2, unique=True))}
    if type_ == "rows":
        feature["agg"] = ["count"]
    else:
        feature |= {"of": draw(st.sampled_from(OF[type_])), "agg": draw(aggregates(type_))}
    if type_ == "f64" and any(agg in SUMMED or "smoothed_mean" in agg for agg in feature["agg"]):
        feature["decimals"] = draw(st.sampled_from([0, 2, 5]))
    where = draw(st.sampled_from(WHERE))
    if where is not None:
        feature["where"] = where
    feature["by"] = draw(st.sampled_from([["k"], ["k"], ["k"], [], ["k", "j"], ["j"], ["k", "j", "b"]]))
    fixed = any(one.agg in {"histogram", "smoothed_mean"} for one in ref.each_column(feature))
    gives = {ref_type(one.agg, type_) for one in ref.each_column(feature)}
    if len(gives) == 1 and not fixed and draw(st.booleans()) and (empty := EMPTY[next(iter(gives))]) is not None:
        feature["empty"] = empty
    readable = {feature.get("of"), where} & {"a", "t"} == set()
    if include_request and readable and draw(st.booleans()):
        feature["include_request"] = True
    return "{agg}_{window}", feature


def ref_type(agg: str, of_type: str) -> str:
    if agg in {"count", "n_distinct", "histogram"}:
        return "i64"
    if agg in {"mean", "std", "smoothed_mean"}:
        return "f64"
    return "i64" if of_type in {"rows", "bool"} and agg == "sum" else of_type


@st.composite
def lookup_features(draw: Any) -> tuple[str, Row]:
    source, column = draw(
        st.sampled_from([("ev", name) for name in ("v", "n", "s", "b", "t")] + [("dim", "d"), ("dim", "c")])
    )
    feature: Row = {"lookup": f"{source}.{column}"}
    default = EMPTY[{**EVENT, **DIMENSION}[column]]
    if default is not None and draw(st.booleans()):
        feature["default"] = default
    if source == "ev" and draw(st.booleans()):
        feature["max_age"] = draw(widths)
    return "", feature


@st.composite
def expression_features(draw: Any) -> tuple[str, Row]:
    readable = ["n + j", "n % 7", "v * 3.0", "n / 3", "v / NULLIF(j, 0)", "s || k", "n > 0", "v * 2.0 + 1.5"]
    text = draw(st.sampled_from(readable))
    feature: Row = {"expr": text}
    if draw(st.booleans()):
        feature["default"] = EMPTY[EXPRESSIONS[text].type]
    return "", feature


@dataclass(frozen=True)
class Scene:
    """One random example: the program in both forms, the rows, the questions."""

    features: dict[str, Row]
    compiled: CompileResult
    world: ref.World
    events: list[Row]
    asked: list[Row]

    @property
    def program(self) -> Any:
        return self.compiled.program

    @property
    def history(self) -> dict[str, pl.DataFrame]:
        return {"ev": to_frame(self.events, EVENT), "dim": to_frame(self.world.history["dim"], DIMENSION)}

    @property
    def spine(self) -> pl.DataFrame:
        return to_frame(self.asked, {"event_time": "timestamp", "row_id": "i64", **REQUEST})

    def truth(self) -> list[tuple[Any, ...]]:
        rows = [ref.features_of(self.features, asked, self.world) for asked in self.asked]
        return [tuple(bits_of(row[name]) for name in self.program.order) for row in rows]


@st.composite
def scenes(draw: Any, most_events: int = 24, most_questions: int = 5) -> Scene:
    base = draw(st.sampled_from(BASES))
    id_ = draw(st.sampled_from(["id", "id", None]))
    available = draw(
        st.sampled_from([Available(), Available(delay="2us"), Available(column="a"), Available(column="a")])
    )
    on_events = id_ is not None
    drawn = draw(
        st.lists(
            st.one_of(
                window_features(include_request=on_events),
                window_features(include_request=on_events),
                lookup_features(),
                expression_features(),
            ),
            min_size=1,
            max_size=5,
        )
    )
    features = {
        f"f{index}_{suffix}" if suffix else f"f{index}": feature for index, (suffix, feature) in enumerate(drawn)
    }
    rows, asked = draw(events(base, most_events)), draw(questions(base, most_questions))
    as_of = draw(st.one_of(st.none(), st.none(), offsets.map(lambda x: base + x)))
    return scene(features, rows, asked, draw(dimensions), Setting(id_, available, as_of))


ALWAYS = Available()


@dataclass(frozen=True)
class Setting:
    """How events are identified, when they are known, and at which snapshot."""

    id: str | None = "id"
    available: Available = ALWAYS
    as_of: int | None = None


# Reads every column, so that ties are broken by the whole row in the program as they are in the reference.
WHOLE = {
    **{f"all_{name}": {"from": "ev", "of": name, "agg": "last", "window": "1us"} for name in EVENT},
    "all_d": {"lookup": "dim.d"},
    "all_c": {"lookup": "dim.c"},
}


def scene(features: dict[str, Row], rows: list[Row], asked: list[Row], dimension: list[Row], setting: Setting) -> Scene:
    """Put one example together: compile the program, describe the sources to the reference."""
    whole = {**features, **WHOLE}
    sources = sources_of(setting)
    spine = "ev" if setting.id is not None else "asked"
    compiled = compile_program(typed(whole), SpineSpec(source=spine, request=REQUEST), None, sources)
    delay = ref.microseconds(setting.available.delay)
    described = {
        "ev": ref.Source(EVENT, ("k",), "t", setting.id, setting.available.column, delay),
        "dim": ref.Source(DIMENSION, ("k",)),
    }
    history = {"ev": rows, "dim": dimension}
    world = ref.World(described, history, spine, REQUEST, EXPRESSIONS, setting.as_of)
    return Scene(whole, compiled, world, rows, asked)


def sources_of(setting: Setting) -> dict[str, SourceSpec]:
    nowhere = Nowhere()
    return {
        "ev": SourceSpec(
            kind="n", params=nowhere, columns=EVENT, key=("k",), time="t", id=setting.id, available=setting.available
        ),
        "dim": SourceSpec(kind="n", params=nowhere, columns=DIMENSION, key=("k",), static=True),
        "asked": SourceSpec(kind="a", params=nowhere, columns=ASKED, key=("k",), time="event", id="row"),
    }


def typed(features: Mapping[str, Row]) -> dict[str, FeatureSpec]:
    """Features as the loader makes them of YAML."""
    return {
        name: msgspec.convert(feature, next(FEATURE_KINDS[key] for key in FEATURE_KINDS if key in feature))
        for name, feature in features.items()
    }


def label_scene(label: Row, rows: list[Row], setting: Setting) -> tuple[CompileResult, ref.Source]:
    """A program with a label over the events, and the events as the reference sees them."""
    spec = msgspec.convert(label, LabelSpec)
    spine = SpineSpec(source="asked", request=REQUEST)
    compiled = compile_program(typed(WHOLE), spine, spec, sources_of(setting))
    delay = ref.microseconds(setting.available.delay)
    return compiled, ref.Source(EVENT, ("k",), "t", setting.id, setting.available.column, delay)


# --- frames and bits ---------------------------------------------------------------------------------------------


def to_frame(rows: Sequence[Row], types: Mapping[str, str]) -> pl.DataFrame:
    columns = []
    for name, type_ in types.items():
        values = [row[name] for row in rows]
        plain = pl.Series(name, values, dtype=pl.Int64 if type_ == "timestamp" else DTYPES[type_], strict=True)
        columns.append(plain.cast(DTYPES[type_]))
    return pl.DataFrame(columns)


def bits_of(value: Any) -> Any:
    return struct.pack("<d", value) if isinstance(value, float) else (type(value), value)


def bits(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    plain = frame.with_columns(pl.selectors.datetime().dt.epoch("us"))
    return [tuple(map(bits_of, row)) for row in plain.rows()]
