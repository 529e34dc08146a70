"""Encoders: a value as a number, learnt from training rows only and frozen with the model.

Called by the train node (`fit_encoders`) and by every scorer (`encode`). The fitted tables are plain JSON in the
package.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, cast

import msgspec
import numpy as np
import polars as pl

from engine.errors import DataError, IntegrityError
from engine.features.exact import Doubles
from engine.features.frames import conform
from engine.features.lowered_functions import DTYPES
from engine.features.steps import NUMERIC, Encoded, FeatureProgram
from engine.keys import Json


class FittedEncoder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`numbers[i]` stands for `values[i]`; everything else, and null, is `unknown`. Timestamps are microseconds.

    A standardised value is `(x - mean) / sd`, 0 where `sd` is 0; a bin is the number of `edges` below the value.
    """

    values: tuple[bool | int | str, ...] = ()
    numbers: tuple[int | float, ...] = ()
    unknown: int | float | None = None
    mean: float | None = None
    sd: float | None = None
    edges: tuple[int | float, ...] | None = None


class FittedEncoders(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fitted encoders by the name of their feature."""

    encoders: dict[str, FittedEncoder] = {}

    def to_json(self) -> Json:
        """Plain JSON; `from_json` reads it back."""
        return cast("Json", msgspec.to_builtins(self))

    @staticmethod
    def from_json(document: Json) -> FittedEncoders:
        """Read what `to_json` wrote; raises `IntegrityError`."""
        try:
            return msgspec.convert(document, FittedEncoders)
        except msgspec.ValidationError as error:
            raise IntegrityError(f"not fitted encoders: {error}") from error


def fit_encoders(program: FeatureProgram, frame: pl.DataFrame) -> FittedEncoders:
    """Fit every encoder whose column `frame` (training rows) has; the order of the rows does not matter.

    `vocab` numbers the values seen at least `min_count` times from 0, by falling frequency, ties by value; `frequency`
    gives each such value its share of all rows; `standardise` keeps the mean and the population standard deviation,
    from exact sums; `bins` keeps the values at the ranks ceil(j * n / bins), each once.
    """
    steps = [step for name in program.encoded_names if isinstance(step := program.by_name[name], Encoded)]
    return FittedEncoders(
        encoders={step.name: _fit(program, step, frame) for step in steps if step.column in frame.columns}
    )


def encode(program: FeatureProgram, fitted: FittedEncoders, frame: pl.DataFrame) -> pl.DataFrame:
    """The numeric columns that a model can see, in order of declaration: one row a row, null where a value is unknown.

    `frame` holds computed features and request fields. A feature that is neither in `frame` nor fitted is left out.
    Raises `DataError` for a column of another type, or when an encoder was fitted and its column is missing.
    """
    columns = []
    for name in program.order:
        step = program.by_name[name]
        if isinstance(step, Encoded) and name in fitted.encoders:
            columns.append(_encode(step, fitted.encoders[name], _operand(program, step, frame)).alias(name))
        elif not isinstance(step, Encoded) and step.type in NUMERIC and name in frame.columns:
            columns.append(frame[name])
    return pl.DataFrame(columns)


def _operand(program: FeatureProgram, step: Encoded, frame: pl.DataFrame) -> pl.Series:
    """The column that an encoder reads; timestamps as microseconds."""
    types = {**program.spine.request, **program.output_types, "event_time": "timestamp"}
    if step.column not in frame.columns:
        raise DataError(f"feature `{step.name}` encodes `{step.column}`, which the rows do not have")
    values = conform(frame, {step.column: types[step.column]}, "rows to encode")[step.column]
    return values.dt.epoch("us") if types[step.column] == "timestamp" else values


def _fit(program: FeatureProgram, step: Encoded, frame: pl.DataFrame) -> FittedEncoder:
    values = _operand(program, step, frame).alias("value")
    match step.encoder:
        case "standardise":
            mean, sd = moments_of(doubles_of(values.drop_nulls()))
            return FittedEncoder(unknown=step.unknown, mean=mean, sd=sd)
        case "bins":
            return FittedEncoder(unknown=step.unknown, edges=_edges(values.drop_nulls(), step.bins or 1))
    counts = values.drop_nulls().value_counts(name="count").filter(pl.col("count") >= max(step.min_count, 1))
    ranked = counts.sort(["count", "value"], descending=[True, False])
    kept: tuple[Any, ...] = tuple(ranked["value"].to_list())
    if step.encoder == "vocab":
        return FittedEncoder(values=kept, numbers=tuple(range(len(kept))), unknown=step.unknown)
    shares = tuple(count / len(values) for count in ranked["count"].to_list())
    return FittedEncoder(values=kept, numbers=shares, unknown=step.unknown)


def doubles_of(values: pl.Series) -> Doubles:
    """Numbers without nulls as doubles."""
    return values.cast(pl.Float64).to_numpy()


def moments_of(values: Doubles) -> tuple[float, float]:
    """The mean and the population standard deviation, (0, 0) of nothing; the same for any order of the values.

    Each sum is exact and rounded once. A deviation that leaves the doubles counts as 0, so that nothing is divided by it.

    >>> moments_of(np.array([1e16, 1.0, -1e16, 3.0]))[0]
    1.0
    """
    if not len(values):
        return 0.0, 0.0
    mean = exact_mean(values)
    with np.errstate(over="ignore"):
        squares = (values - mean) ** 2
    return mean, math.sqrt(exact_mean(squares)) if np.isfinite(squares).all() else 0.0


def exact_mean(values: Doubles) -> float:
    """The exact sum, rounded, over the count; where the sum leaves the doubles, the exact mean, rounded.

    `fsum` gives up when a part of the sum leaves the doubles, which depends on the order; fractions do not.
    """
    try:
        total: float | Fraction = math.fsum(values)
    except OverflowError:
        total = sum(map(Fraction, values.tolist()), Fraction(0))
    try:
        return float(total) / len(values)
    except OverflowError:
        return float(total / len(values))


def _edges(values: pl.Series, bins: int) -> tuple[int | float, ...]:
    ordered = values.sort()
    ranks = dict.fromkeys(-(-j * len(ordered) // bins) - 1 for j in range(1, bins)) if len(ordered) else ()
    return tuple(dict.fromkeys(ordered[max(rank, 0)] for rank in ranks))


def _encode(step: Encoded, fitted: FittedEncoder, values: pl.Series) -> pl.Series:
    match step.encoder:
        case "standardise":
            made = _standardised(fitted, values)
        case "bins":
            made = _binned(fitted, values)
        case _:
            return _numbered(step, fitted, values)
    return made if fitted.unknown is None else made.fill_null(fitted.unknown)


def _standardised(fitted: FittedEncoder, values: pl.Series) -> pl.Series:
    """NumPy divides each value, where Polars might multiply by a reciprocal; what is not finite is null."""
    mean, sd = fitted.mean or 0.0, fitted.sd or 0.0
    doubles = doubles_of(values.fill_null(False if values.dtype == pl.Boolean else 0))
    with np.errstate(over="ignore"):
        scores = (doubles - mean) / sd + 0.0 if sd else np.zeros(len(doubles))
    return pl.Series(np.where(np.isfinite(scores), scores, np.nan), nan_to_null=True).set(values.is_null(), None)


def _binned(fitted: FittedEncoder, values: pl.Series) -> pl.Series:
    edges = pl.Series(fitted.edges or (), dtype=values.dtype)
    places = edges.search_sorted(values, side="left") if len(values) else pl.Series([], dtype=pl.Int64)
    return places.cast(pl.Int64).set(values.is_null(), None)


def _numbered(step: Encoded, fitted: FittedEncoder, values: pl.Series) -> pl.Series:
    dtype = DTYPES[step.type]
    old = pl.Series(fitted.values, dtype=values.dtype)
    new = pl.Series(fitted.numbers, dtype=dtype)
    if values.is_empty() or old.is_empty():
        return pl.Series([fitted.unknown], dtype=dtype).new_from_index(0, len(values))
    return values.replace_strict(old, new, default=fitted.unknown, return_dtype=dtype).fill_null(fitted.unknown)
