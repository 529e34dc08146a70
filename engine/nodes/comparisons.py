"""What is expected of a source as a whole: its size, its age, and how far it moved from the last good snapshot.

Enters: rows, the declaration and what surrounds it. Leaves: `Outcome`s, which `validation` turns into findings. A first
snapshot has nothing to be compared with, which is said and passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from engine.clock import isoformat
from engine.durations import microseconds
from engine.nodes.expectations import Surroundings
from engine.nodes.frames import reading
from engine.profiling.distance import column_psi, ks
from engine.spec import DistributionLimit, Expectation, SourceSpec

_FIRST = "nothing to compare with: this is the first snapshot"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one comparison."""

    rule: str
    broken: bool
    observed: str


def compare(item: Expectation, frame: pl.DataFrame, spec: SourceSpec, around: Surroundings) -> Iterator[Outcome]:
    """Give the outcome of each limit about the whole source that an expectation sets."""
    rows = frame.height + around.kept_rows
    if item.min_rows is not None:
        yield Outcome(f"at least {item.min_rows:,} rows", rows < item.min_rows, f"{rows:,} rows")
    if item.max_row_loss is not None:
        rule = f"loses at most {item.max_row_loss:.1%} of its rows"
        yield _judge_size(rule, rows, around, (-item.max_row_loss, math.inf))
    if item.max_row_gain is not None:
        rule = f"gains at most {item.max_row_gain:.1%} more rows"
        yield _judge_size(rule, rows, around, (-math.inf, item.max_row_gain))
    if item.freshness is not None and spec.time is not None and around.now is not None:
        newest = [value for value in (frame[spec.time].max(), around.kept_last) if isinstance(value, datetime)]
        yield judge_age(item.freshness, max(newest, default=None), around.now)
    if item.distribution is not None and item.column is not None:
        yield _judge_distribution(item.column, item.distribution, frame, around)


def _judge_size(rule: str, rows: int, around: Surroundings, limits: tuple[float, float]) -> Outcome:
    before = around.last_good.rows if around.last_good is not None else 0
    if not before:
        return Outcome(rule, broken=False, observed=_FIRST)
    change = rows / before - 1.0
    return Outcome(rule, not limits[0] <= change <= limits[1], f"{before:,} -> {rows:,} rows ({change:+.1%})")


def judge_age(limit: str, newest: datetime | None, now: datetime) -> Outcome:
    """Judge the newest row. How old it is gets told only when it is too old: a passed audit does not know the hour."""
    rule = f"the newest row is at most {limit} old"
    if newest is None:
        return Outcome(rule, broken=True, observed="no row has a time")
    age, told = now - newest, f"newest {isoformat(newest)}"
    if age > timedelta(microseconds=microseconds(limit)):
        return Outcome(rule, broken=True, observed=f"{told}, {age - timedelta(microseconds=age.microseconds)} ago")
    return Outcome(rule, broken=False, observed=told)


def _judge_distribution(column: str, limit: DistributionLimit, frame: pl.DataFrame, around: Surroundings) -> Outcome:
    rule = f"{column} is distributed as before ({limit.measure} <= {limit.threshold:g})"
    if around.last_good is None:
        return Outcome(rule, broken=False, observed=_FIRST)
    with reading("the last good snapshot"):
        before = around.last_good.scan()
        if column not in before.collect_schema():
            return Outcome(rule, broken=False, observed=f"the last good snapshot has no column {column}")
        reference = before.select(column).collect()[column]
    few = min(len(reference), frame.height)
    if few < limit.min_rows:
        return Outcome(rule, broken=False, observed=f"{few:,} rows are too few to say ({limit.min_rows:,} are needed)")
    moved = (column_psi if limit.measure == "psi" else ks)(reference, frame[column])
    return Outcome(rule, moved > limit.threshold, f"{limit.measure} {moved:.4f}, {len(reference):,} rows before")
