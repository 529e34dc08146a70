"""What is expected of rows, as masks of the rows that break it: the built-in rules, and one for each declared limit.

Enters: rows, the declaration and what surrounds it. Leaves: `Rule`s for `validation` to count. As in SQL, an expression
that is null has not failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from engine.features.expression import check, columns_of, parse
from engine.features.lowering import Lowered, evaluate, lower
from engine.features.timeline import comes_once
from engine.nodes.frames import collect
from engine.spec import Expectation, SourceSpec
from engine.threads import in_threads

_SLICE = 1 << 18
_TYPES: Mapping[type[pl.DataType], str] = {pl.Boolean: "bool", pl.Int64: "i64", pl.Float64: "f64", pl.String: "str"}


@dataclass(frozen=True, slots=True)
class LastGood:
    """The source's last good snapshot: how to read it (which costs a verification of its files), and its rows if known."""

    known_rows: int | None
    scan: Callable[[], pl.LazyFrame]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        if self.known_rows is not None:
            return self.known_rows
        return int(collect(self.scan().select(pl.len()), "the last good snapshot").item())


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an audit compares with: sources referred to, the last good snapshot, the clock, and rows that stay as they are.

    `kept` are the rows of partitions that this ingestion does not touch; `kept_rows` says how many there are, and
    `kept_last` how new the newest is.
    """

    references: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    last_good: LastGood | None = None
    now: datetime | None = None
    kept: Callable[[], pl.LazyFrame] | None = None
    kept_rows: int = 0
    kept_last: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One check: a mask of the rows that break it, and the share of them that may; `about` are the columns that it reads."""

    rule: str
    broken: pl.Expr
    severity: str = "block"
    allowed: float = 0.0
    column: str | None = None
    doc: str = ""
    about: tuple[str, ...] = ()


def rules_of(frame: pl.DataFrame, spec: SourceSpec, around: Surroundings) -> list[Rule]:
    """Give every rule about rows, the built-in ones first."""
    declared = (rule for item in spec.expect for rule in _declared(item, frame, around))
    return [*_built_in(frame, spec), *declared]


def _built_in(frame: pl.DataFrame, spec: SourceSpec) -> list[Rule]:
    """What always holds: rows have keys and times, and an id names one row of each version."""
    rules = [Rule(f"{key} is the key", pl.col(key).is_null(), "warn", column=key) for key in spec.key]
    if spec.time is not None:
        rules.append(Rule(f"{spec.time} is the time", pl.col(spec.time).is_null(), "warn", column=spec.time))
    if spec.id is not None:
        rules.append(Rule(f"{spec.id} names one row of each version", _twice(frame, spec, spec.id), column=spec.id))
    return rules


def _twice(frame: pl.DataFrame, spec: SourceSpec, id_: str) -> pl.Expr:
    """Mask rows whose id, availability and time another row has too.

    The time is among them, so a duplicate lies in the same partition: a partition can be audited alone.
    """
    if comes_once(frame[id_]):  # by far the most frequent case, and much cheaper to see
        return pl.lit(value=False)
    version = [name for name in (id_, spec.available.column, spec.time) if name]
    return pl.struct(version).is_duplicated() & pl.col(id_).is_not_null()


def _declared(item: Expectation, frame: pl.DataFrame, around: Surroundings) -> list[Rule]:
    """Turn one expectation into its rules: one for each limit that it sets."""
    rules = [_condition(item, item.expr, frame)] if item.expr is not None else []
    if item.column is not None:
        found = [*_value_rules(item, item.column), *_row_rules(item, item.column, frame, around)]
        about = (item.column,)
        rules += [Rule(rule, mask, item.severity, share, item.column, item.doc, about) for rule, mask, share in found]
    return rules


def _value_rules(item: Expectation, name: str) -> list[tuple[str, pl.Expr, float]]:
    """Give the rules that look at one value at a time."""
    column = pl.col(name)
    rules: list[tuple[str, pl.Expr, float]] = []
    if item.not_null:
        rules.append((f"{name} is not null", column.is_null(), 0.0))
    if item.max_null_fraction is not None:
        rules.append(
            (f"{name} is null in at most {item.max_null_fraction:.2%}", column.is_null(), item.max_null_fraction)
        )
    if item.minimum is not None:
        rules.append((f"{name} >= {item.minimum:g}", column < item.minimum, 0.0))
    if item.maximum is not None:
        rules.append((f"{name} <= {item.maximum:g}", column > item.maximum, 0.0))
    if item.values is not None:
        rules.append((f"{name} is one of {', '.join(item.values)}", ~column.cast(pl.String).is_in(item.values), 0.0))
    if item.pattern is not None:
        rules.append((f"{name} matches {item.pattern}", ~column.cast(pl.String).str.contains(item.pattern), 0.0))
    return rules


def _row_rules(
    item: Expectation, name: str, frame: pl.DataFrame, around: Surroundings
) -> list[tuple[str, pl.Expr, float]]:
    """Give the rules that compare a row with others, with the clock or with another source."""
    column = pl.col(name)
    rules: list[tuple[str, pl.Expr, float]] = []
    if item.unique:
        twice = pl.lit(value=False) if comes_once(frame[name]) else column.is_duplicated()
        if around.kept is not None:
            kept = collect(around.kept().select(name).unique(), "the partitions that stay")
            twice = twice | column.is_in(kept[name].implode())
        rules.append((f"{name} is unique", twice & column.is_not_null(), 0.0))
    if item.increasing:
        rules.append((f"{name} never decreases from row to row", column < column.forward_fill().shift(1), 0.0))
    if item.past and around.now is not None:
        rules.append((f"{name} is not in the future", column > pl.lit(around.now), 0.0))
    if item.references is not None:
        source, target = item.references.split(".")
        held = around.references[source][target].unique()
        missing = ~column.is_in(held.implode()) & column.is_not_null()
        rules.append((f"{name} is found in {item.references}", missing, 1.0 - item.min_match_fraction))
    return rules


def _condition(item: Expectation, text: str, frame: pl.DataFrame) -> Rule:
    """Evaluate a SQL condition by the same rules as a feature; its values are a literal column."""
    types = {name: _TYPES.get(type(dtype), "timestamp") for name, dtype in frame.schema.items()}
    tree = parse(text)
    check(tree, types)
    read = tuple(sorted(columns_of(tree)))
    given = frame.select(read or frame.columns[:1])  # evaluation makes what it is given contiguous
    holds = pl.lit(_holds(lower({"holds": tree}, types), given))
    return Rule(text, ~holds, item.severity, 0.0, item.column, item.doc, read)


def _holds(condition: Lowered, given: pl.DataFrame) -> pl.Series:
    """Evaluate slices side by side: a row's condition is its own, and a slice fits into the processor's cache."""
    slices = [given.slice(start, _SLICE) for start in range(0, max(given.height, 1), _SLICE)]
    return pl.concat(in_threads(lambda rows: evaluate(condition, rows)["holds"], slices))
