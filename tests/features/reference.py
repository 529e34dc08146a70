"""The truth of the feature language, in plain Python over lists: rules 1 to 11 of the design, and nothing of the engine.

Rows are dictionaries, moments are integers (microseconds), features are what YAML says, as dictionaries. Sums are Python
integers or fractions. Everything is computed by looking at every row for every question, so it is slow and plainly right;
the property tests demand that the engine agrees bit for bit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

Row = dict[str, Any]
SIZES = {
    "us": 1,
    "ms": 10**3,
    "s": 10**6,
    "m": 60 * 10**6,
    "h": 3600 * 10**6,
    "d": 86_400 * 10**6,
    "w": 604_800 * 10**6,
}
LARGEST_QUANTUM = 2**50
AVAILABLE = "@"  # where a row's availability is kept; sorts before every column


@dataclass(frozen=True)
class Source:
    """What the reference needs to know of a source: roles of columns; `delay` in microseconds, or a column."""

    columns: Mapping[str, str]
    key: tuple[str, ...] = ()
    time: str | None = None
    id: str | None = None
    available: str | None = None
    delay: int = 0
    decimals: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Expression:
    """A SQL text, its type by the types of what it reads, and what it means over one row."""

    text: str
    type: str
    mean: Callable[[Row], Any]


Expressions = Mapping[str, Expression]


def microseconds(text: str) -> int:
    digits = text.rstrip("usmhdwµ")
    return int(digits) * SIZES[text[len(digits) :]]


# --- rows and when they count ------------------------------------------------------------------------------------


def clean(value: Any) -> Any:
    """Rule 5: NaN and infinities are null. There is one zero."""
    if not isinstance(value, float):
        return value
    return value + 0.0 if math.isfinite(value) else None


def cleaned(row: Row) -> Row:
    return {name: clean(value) for name, value in row.items()}


def nulls_first(value: Any) -> tuple[bool, Any]:
    return (value is not None, 0 if value is None else value)


def nulls_last(value: Any) -> tuple[bool, Any]:
    return (value is None, 0 if value is None else value)


def content(row: Row) -> tuple[Any, ...]:
    """What is left to order rows by when time and id are the same: when each was available, then its values."""
    return tuple(nulls_first(row[name]) for name in sorted(row))


def order_of(source: Source) -> Callable[[Row], Any]:
    """Rule 4: the total order is (time, id)."""
    if source.time is None:
        return lambda row: ((nulls_first(row[source.id]),) if source.id else (), content(row))
    if source.id is None:
        return lambda row: (row[source.time], content(row))
    return lambda row: (row[source.time], nulls_first(row[source.id]), content(row))


def known(rows: Sequence[Row], source: Source, at: int, as_of: int | None = None) -> list[Row]:
    """The rows known at a moment, in total order: rule 4, of duplicates the one that became available last counts."""
    if source.time is None:
        return sorted(map(cleaned, rows), key=order_of(source))
    found = []
    for row in map(cleaned, rows):
        since = row[source.available] if source.available else row[source.time]
        if row[source.time] is None or since is None:
            continue
        since += 0 if source.available else source.delay
        if since <= at and (as_of is None or since <= as_of):
            found.append({AVAILABLE: since, **row})
    if source.id is None:
        return sorted(found, key=order_of(source))
    latest: dict[Any, Row] = {}
    for row in sorted(found, key=lambda row: (row[AVAILABLE], order_of(source)(row))):
        latest[("no id", id(row)) if row[source.id] is None else row[source.id]] = row
    return sorted(latest.values(), key=order_of(source))


def visible(rows: Sequence[Row], source: Source, at: int, as_of: int | None = None) -> list[Row]:
    """Rule 1: time < T and available_at <= T."""
    found = known(rows, source, at, as_of)
    return found if source.time is None else [row for row in found if row[source.time] < at]


def of_key(rows: Sequence[Row], on: Sequence[tuple[str, str]], asked: Row) -> list[Row]:
    """The rows whose key is the asked row's; a null is nobody's key."""
    return [row for row in rows if all(row[c] is not None and row[c] == asked[target] for c, target in on)]


# --- aggregates --------------------------------------------------------------------------------------------------


def quantum(value: Any, decimals: int) -> int | None:
    """A double as a whole number of 10**-decimals, half to even; beyond 2**50 it has none. Integers are exact already."""
    if not isinstance(value, float):
        return int(value)
    if abs(value * 10.0**decimals) > 2 * LARGEST_QUANTUM:
        return None
    whole = round(value * 10.0**decimals)
    return whole if abs(whole) <= LARGEST_QUANTUM else None


def exact(values: Sequence[Any], decimals: int) -> list[int]:
    return [whole for value in values if (whole := quantum(value, decimals)) is not None]


def sum_of(whole: Sequence[int], decimals: int, *, double: bool) -> Any:
    """0 of nothing; a sum of integers that leaves 64 bits is null."""
    total = sum(whole)
    if double:
        return float(total) / 10.0**decimals
    return total if -(2**63) <= total < 2**63 else None


def mean_of(whole: Sequence[int], decimals: int) -> float | None:
    return float(sum(whole)) / (float(len(whole)) * 10.0**decimals) if whole else None


def std_of(whole: Sequence[int], decimals: int) -> float | None:
    """The sample standard deviation; null below two values. n * sum(x^2) - sum(x)^2 is an exact integer."""
    n = len(whole)
    if n < 2:
        return None
    spread = n * sum(x * x for x in whole) - sum(whole) ** 2
    made = math.sqrt(float(spread) / (float(n) * (float(n) - 1.0))) / 10.0**decimals
    truth = math.sqrt(Fraction(spread, n * (n - 1))) / 10.0**decimals
    assert math.isclose(made, truth, rel_tol=1e-14)
    return made


def smoothed_mean_of(whole: Sequence[int], decimals: int, prior: float, weight: float) -> float:
    """(sum + prior * weight) / (count + weight), each operation rounded once; the prior of nothing."""
    if not whole:
        return prior
    total = float(sum(whole)) / 10.0**decimals
    return (total + prior * weight) / (float(len(whole)) + weight)


def quantile_of(values: Sequence[Any], q: float) -> Any:
    """The value of nearest rank: max(1, ceil(q * n)), in rising order; q is the decimal number that was written."""
    if not values:
        return None
    rank = max(1, math.ceil(Fraction(repr(q)) * len(values)))
    return sorted(values)[rank - 1]


def last_of(values: Sequence[Any], rank: int) -> Any:
    """The rank-th latest value, from 1."""
    return values[-rank] if rank <= len(values) else None


def top_of(values: Sequence[Any], rank: int) -> Any:
    """The rank-th most frequent value, from 1; the smaller of equally frequent ones first."""
    ranked = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    return ranked[rank - 1][0] if rank <= len(ranked) else None


def histogram_of(values: Sequence[Any], low: float | None, high: float | None) -> int:
    """How many values lie in [low, high)."""
    return sum((low is None or value >= low) and (high is None or value < high) for value in values)


@dataclass(frozen=True)
class One:
    """One column of a window feature: an aggregate with its parameters."""

    agg: str
    label: str
    suffix: str = ""
    parameter: Any = None


def columns_of(agg: Any) -> list[One]:
    """What one entry of `agg` stands for."""
    if isinstance(agg, str):
        return [One(agg, agg)]
    ((name, parameters),) = agg.items()
    match name:
        case "quantile":
            several = parameters["q"] if isinstance(parameters["q"], list) else [parameters["q"]]
            return [One(name, f"quantile_{percent(q)}", parameter=q) for q in several]
        case "last_k" | "top_k":
            return [One(name, name, f"_{rank}", rank) for rank in range(1, parameters["k"] + 1)]
        case "histogram":
            limits = [None, *parameters["edges"], None]
            return [One(name, name, f"_{i}", (limits[i], limits[i + 1])) for i in range(len(limits) - 1)]
        case "smoothed_mean":
            return [One(name, name, parameter=(float(parameters["prior"]), float(parameters["weight"])))]
    raise AssertionError(name)


def percent(q: float) -> str:
    whole = Fraction(repr(float(q))) * 100
    if whole.denominator == 1:
        return str(whole)
    digits = repr(float(q)).split(".")[1].ljust(2, "0")
    return f"{int(digits[:2])}_{digits[2:]}"


def aggregate(one: One, values: Sequence[Any], decimals: int, *, double: bool) -> tuple[Any, bool]:
    """An aggregate of the values of a window (in total order, nulls among them), and whether there was any value."""
    values = [value for value in values if value is not None]
    if one.agg in {"sum", "mean", "std", "smoothed_mean"}:
        whole = exact(values, decimals)
        return summed(one, whole, decimals, double=double), bool(whole)
    if one.agg in {"count", "n_distinct", "histogram"}:
        return counted(one, values), bool(values)
    return selected(one, values), bool(values)


def summed(one: One, whole: Sequence[int], decimals: int, *, double: bool) -> Any:
    match one.agg:
        case "sum":
            return sum_of(whole, decimals, double=double)
        case "mean":
            return mean_of(whole, decimals)
        case "std":
            return std_of(whole, decimals)
    return smoothed_mean_of(whole, decimals, *one.parameter)


def counted(one: One, values: Sequence[Any]) -> int:
    match one.agg:
        case "count":
            return len(values)
        case "n_distinct":
            return len(set(values))
    return histogram_of(values, *one.parameter)


def selected(one: One, values: Sequence[Any]) -> Any:
    match one.agg:
        case "min":
            return min(values, default=None)
        case "max":
            return max(values, default=None)
        case "first":
            return values[0] if values else None
        case "last":
            return last_of(values, 1)
        case "last_k":
            return last_of(values, one.parameter)
        case "quantile":
            return quantile_of(values, one.parameter)
    return top_of(values, one.parameter)


ZERO_OF_NOTHING = frozenset({"count", "sum", "n_distinct"})
"""Aggregates that have a value when there is none to aggregate; `empty` takes its place all the same."""


def otherwise(one: One, made: Any, *, any_value: bool, empty: Any) -> Any:
    """Rule 5: `empty` where there is nothing to aggregate, and for the others wherever the result is null."""
    if empty is None:
        return made
    if one.agg in ZERO_OF_NOTHING:
        return made if any_value else empty
    return empty if made is None else made


# --- features ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Everything that a program is evaluated against."""

    sources: Mapping[str, Source]
    history: Mapping[str, Sequence[Row]]
    spine_source: str
    request: Mapping[str, str]
    expressions: Expressions
    as_of: int | None = None


def pairs(key: Sequence[str], on: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(column, on.get(column, column)) for column in key]


def lookup(feature: Row, asked: Row, world: World) -> Any:
    """Rule 3: the latest visible row; `max_age` is inclusive. A static dimension is always visible."""
    name, _, column = feature["lookup"].partition(".")
    source = world.sources[name]
    rows = of_key(
        visible(world.history[name], source, asked["event_time"], world.as_of),
        pairs(source.key, feature.get("on", {})),
        asked,
    )
    if not rows:
        return feature.get("default")
    last = rows[-1]
    limit = feature.get("max_age")
    if limit is not None and asked["event_time"] - last[source.time] > microseconds(limit):
        return feature.get("default")
    return feature.get("default") if last[column] is None else last[column]


def window(feature: Row, asked: Row, world: World) -> dict[tuple[int, int], Any]:
    """Rule 2: [T - W, T), and the request's row when it is included. Values by (index of column, index of window)."""
    source = world.sources[feature["from"]]
    by = feature.get("by", list(source.key))
    rows = of_key(
        visible(world.history[feature["from"]], source, asked["event_time"], world.as_of),
        pairs([by] if isinstance(by, str) else by, feature.get("on", {})),
        asked,
    )
    of = world.expressions[feature["of"]] if feature.get("of") else None
    where = world.expressions[feature["where"]] if feature.get("where") else None
    decimals = feature.get("decimals")
    if decimals is None and of is not None:
        decimals = source.decimals.get(of.text, 0)
    results = {}
    for column, one in enumerate(each_column(feature)):
        for place, width in enumerate(as_list(feature["window"])):
            inside = [row for row in rows if row[source.time] >= asked["event_time"] - microseconds(width)]
            if feature.get("include_request"):
                inside = [*inside, cleaned({name: asked[name] for name in world.request})]
            kept = [row for row in inside if where is None or where.mean(row) is True]
            values = [1 if of is None else clean(of.mean(row)) for row in kept]
            double = of is not None and of.type == "f64"
            made, any_value = aggregate(one, values, decimals if double and decimals else 0, double=double)
            results[column, place] = otherwise(one, made, any_value=any_value, empty=feature.get("empty"))
    return results


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def each_column(feature: Row) -> list[One]:
    return [one for agg in as_list(feature["agg"]) for one in columns_of(agg)]


def names_of(declared: str, feature: Row) -> list[str]:
    """The names that a declared feature expands to, aggregates outside, windows inside."""
    if "from" not in feature:
        return [declared]
    return [
        declared.replace("{agg}", one.label).replace("{window}", width) + one.suffix
        for one in each_column(feature)
        for width in as_list(feature["window"])
    ]


def features_of(features: Mapping[str, Row], asked: Row, world: World) -> Row:
    """Every feature of one spine row, by expanded name; each may read those before it."""
    frame = {"event_time": asked["event_time"], **{name: clean(asked[name]) for name in world.request}}
    made: Row = {}
    for declared, feature in features.items():
        if "expr" in feature:
            value = clean(world.expressions[feature["expr"]].mean(frame))
            made[declared] = feature.get("default") if value is None else value
        elif "lookup" in feature:
            made[declared] = lookup(feature, frame, world)
        else:
            values = window(feature, frame, world)
            made |= dict(zip(names_of(declared, feature), values.values(), strict=True))
        frame |= made
    return made


# --- the spine and its labels ------------------------------------------------------------------------------------


def spine_of(rows: Sequence[Row], source: Source, where: Callable[[Row], Any] | None, as_of: int | None) -> list[Row]:
    """The rows that would have been asked about: of several versions, the last known at its own time, else the first."""
    versions: dict[Any, list[Row]] = {}
    for row in map(cleaned, rows):
        if row[source.time] is None or row[source.id] is None or (as_of is not None and row[source.time] > as_of):
            continue
        versions.setdefault(row[source.id], []).append(row)

    def preference(row: Row) -> tuple[Any, ...]:
        since = row[source.available] if source.available else row[source.time] + source.delay
        values = tuple(nulls_last(row[name]) for name in sorted(row))
        if since is None:
            return (1, math.inf, values)
        late = since - row[source.time]
        return (0, -since, values) if late <= 0 else (1, late, values)

    chosen = [min(found, key=preference) for found in versions.values()]
    kept = [row for row in chosen if where is None or where(row) is True]
    return sorted(kept, key=lambda row: (row[source.time], row[source.id]))


@dataclass(frozen=True)
class Labelled:
    """What a label is, why it is or is not usable, and when it was final."""

    label: Any
    reason: str
    known_at: int | None


def label_of(
    asked: Row, events: Sequence[Row], source: Source, *, label: Row, expression: Expression, now: int
) -> Labelled:
    """Rule 9: the first event in [T, T + horizon]; usable iff T + maturity <= the snapshot's time."""
    at = asked["event_time"]
    on = list(label["on"].items())
    mine = of_key(known(events, source, now), on, asked)
    inside = [
        row
        for row in mine
        if row[source.time] >= at
        and (label["horizon"] is None or row[source.time] <= at + microseconds(label["horizon"]))
    ]
    value = clean(expression.mean(inside[0])) if inside else None
    final = at + microseconds(label["maturity"])
    if final > now:
        reason = "immature"
    elif not mine:
        reason = "missing"
    elif not inside:
        reason = "outside_horizon"
    else:
        reason = "null" if value is None else "usable"
    return Labelled(value, reason, max(final, inside[0][AVAILABLE]) if inside else None)


# --- encoders ----------------------------------------------------------------------------------------------------


def mean_of_doubles(values: Sequence[float]) -> float:
    """The exact sum, rounded once, over the count; the exact mean rounded once where the sum leaves the doubles."""
    total = sum(map(Fraction, values), Fraction(0))
    try:
        return float(total) / len(values)
    except OverflowError:
        return float(total / len(values))


def fit(encoder: str, training: Sequence[Any], *, min_count: int = 1, bins: int = 10) -> Callable[[Any], Any]:
    """Rule 9: learn from training values; give the function from a value to its number, None where there is none."""
    present = [clean(value) for value in training if clean(value) is not None]
    counts = Counter(present)
    kept = sorted((v for v in counts if counts[v] >= max(min_count, 1)), key=lambda v: v)
    kept.sort(key=lambda v: -counts[v])
    match encoder:
        case "vocab":
            numbers = {value: index for index, value in enumerate(kept)}
            return numbers.get
        case "frequency":
            shares = {value: counts[value] / len(training) for value in kept}
            return shares.get
        case "bins":
            ordered = sorted(present)
            edges = {
                ordered[max(math.ceil(Fraction(j * len(ordered), bins)), 1) - 1] for j in range(1, bins) if ordered
            }
            return lambda value: None if clean(value) is None else sum(edge < value for edge in edges)
        case "standardise":
            return standardised([float(value) for value in present])
    raise AssertionError(encoder)


def standardised(values: list[float]) -> Callable[[Any], Any]:
    mean = mean_of_doubles(values) if values else 0.0
    squares = [(value - mean) * (value - mean) for value in values]
    finite = all(map(math.isfinite, squares))
    sd = math.sqrt(mean_of_doubles(squares)) if values and finite else 0.0
    return lambda value: None if clean(value) is None else clean((float(value) - mean) / sd) if sd else 0.0
