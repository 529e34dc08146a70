"""Aggregates with parameters, and windows that include the request, computed query by query. Called by `compute`.

Correct and slow: each spine row's values are gathered and aggregated one by one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl

from engine.features.exact import finalise_mean, finalise_std, finalise_sum, quantise
from engine.features.frames import plain
from engine.features.intervals import cover
from engine.features.lowered_functions import DTYPES
from engine.features.lowering import evaluate, lower
from engine.features.steps import Window
from engine.features.timeline import LONGEST
from engine.features.timestamps import TIMESTAMP
from engine.features.windows import Joined

NEW = frozenset({"quantile", "last_k", "top_k", "histogram", "smoothed_mean"})


def is_plain(step: Window) -> bool:
    """Say whether a step is computed here."""
    return step.agg in NEW or step.include_request


def compute_plain(
    joined: Joined, step: Window, types: tuple[dict[str, str], dict[str, str]], frame: pl.DataFrame
) -> pl.Series:
    """One series, in spine order; `frame` has the request fields, `types` are the source's and the request's."""
    held, keep = _operand(joined.timeline.frame, step, types[0])
    values: list[list[Any]] = [[] for _ in range(joined.queries.total)]
    line, rows = joined.timeline, joined.rows
    leave = np.minimum(line.time[rows] + min(step.window, LONGEST), line.until[rows])
    ranges = cover(joined.queries, joined.codes, joined.low, leave)
    for row, low, high in zip(rows, ranges.low, ranges.high, strict=True):
        if keep[row] and held[row] is not None:
            for position in range(low, high):
                values[joined.queries.row[position]].append(held[row])
    if step.include_request:
        asked, wanted = _operand(frame, step, types[1])
        for query, value in enumerate(asked):
            if wanted[query] and value is not None:
                values[query].append(value)
    made = [_aggregate(step, found) for found in values]
    if step.type == "timestamp":
        return pl.Series(step.name, made, dtype=pl.Int64).cast(TIMESTAMP)
    return pl.Series(step.name, made, dtype=DTYPES[step.type])


def _operand(frame: pl.DataFrame, step: Window, columns: dict[str, str]) -> tuple[list[Any], list[Any]]:
    trees = {name: tree for name, tree in (("of", step.of), ("where", step.where)) if tree is not None}
    made = evaluate(lower(trees, columns), frame)
    of = plain(made["of"]) if step.of is not None else pl.Series([1]).new_from_index(0, frame.height)
    if of.dtype == TIMESTAMP:
        of = of.dt.epoch("us")
    where = made["where"].fill_null(value=False).to_list() if step.where is not None else [True] * frame.height
    if step.decimals is not None and step.of is not None:
        quanta, valid = quantise(of, step.decimals)
        return [int(value) if ok else None for value, ok in zip(quanta, valid, strict=True)], where
    return of.to_list(), where


def _aggregate(step: Window, values: list[Any]) -> Any:
    empty = step.empty
    match step.agg:
        case "sum" | "mean" | "std" | "smoothed_mean":
            made = _moments(step, values)
        case "count":
            made = len(values)
        case "n_distinct":
            made = len(set(values))
        case "histogram":
            low, high = step.bounds or (None, None)
            made = sum((low is None or v >= low) and (high is None or v < high) for v in values)
        case _:
            made = _pick(step, values)
            return empty if made is None else made
    if empty is None:
        return made
    if step.agg in {"mean", "std"}:
        return empty if made is None else made
    return made if values else empty


@dataclass(frozen=True, slots=True)
class _Sums:
    count: np.ndarray
    total: np.ndarray

    @staticmethod
    def of(values: Sequence[int]) -> _Sums:
        return _Sums(np.array([len(values)], dtype=object), np.array([sum(values)], dtype=object))


def _moments(step: Window, values: Sequence[int]) -> Any:
    decimals, sums = step.decimals or 0, _Sums.of(values)
    match step.agg:
        case "sum" if step.type == "i64":
            total = sum(values)
            return total if -(2**63) <= total < 2**63 else None
        case "sum":
            return float(finalise_sum(sums.total, decimals)[0])
        case "mean":
            return float(finalise_mean(sums.count.astype(np.int64), sums.total, decimals)[0]) if values else None
        case "std":
            spread = len(values) * sum(v * v for v in values) - sum(values) ** 2
            made = finalise_std(sums.count.astype(np.int64), np.array([float(spread)]), decimals)[0]
            return float(made) if len(values) > 1 else None
        case _:
            prior, weight = step.prior or 0.0, step.weight or 1.0
            if not values:
                return prior
            return (float(finalise_sum(sums.total, decimals)[0]) + prior * weight) / (float(len(values)) + weight)


def _pick(step: Window, values: list[Any]) -> Any:
    rank = step.rank or 1
    match step.agg:
        case _ if not values:
            return None
        case "min":
            return min(values)
        case "max":
            return max(values)
        case "first":
            return values[0]
        case "last" | "last_k":
            return values[-rank] if rank <= len(values) else None
        case "quantile":
            share = Fraction(Decimal(repr(step.q or 0.0)))
            return sorted(values)[max(1, math.ceil(share * len(values))) - 1]
        case _:
            ranked = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
            return ranked[rank - 1][0] if rank <= len(ranked) else None
