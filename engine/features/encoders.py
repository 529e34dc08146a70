"""Encoders: a value as a number, learnt from training rows only and frozen with the model.

Called by the train node (`fit_encoders`) and by every scorer (`encode`). The fitted tables are plain JSON in the
package.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
import polars as pl

from engine.errors import DataError, IntegrityError
from engine.features.frames import conform
from engine.features.lowered_functions import DTYPES
from engine.features.steps import NUMERIC, Encoded, FeatureProgram
from engine.keys import Json


class FittedEncoder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`numbers[i]` stands for `values[i]`; everything else, and null, is `unknown`. Timestamps are microseconds."""

    values: tuple[bool | int | str, ...]
    numbers: tuple[int | float, ...]
    unknown: int | float


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

    `vocab` numbers the values seen at least `min_count` times from 0, by falling frequency, ties by value;
    `frequency` gives each such value its share of all rows.
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
    counts = values.drop_nulls().value_counts(name="count").filter(pl.col("count") >= max(step.min_count, 1))
    ranked = counts.sort(["count", "value"], descending=[True, False])
    kept: tuple[Any, ...] = tuple(ranked["value"].to_list())
    if step.encoder == "vocab":
        return FittedEncoder(values=kept, numbers=tuple(range(len(kept))), unknown=step.unknown)
    shares = tuple(count / len(values) for count in ranked["count"].to_list())
    return FittedEncoder(values=kept, numbers=shares, unknown=float(step.unknown))


def _encode(step: Encoded, fitted: FittedEncoder, values: pl.Series) -> pl.Series:
    dtype = DTYPES[step.type]
    old = pl.Series(fitted.values, dtype=values.dtype)
    new = pl.Series(fitted.numbers, dtype=dtype)
    if values.is_empty() or old.is_empty():
        return pl.Series([fitted.unknown], dtype=dtype).new_from_index(0, len(values))
    return values.replace_strict(old, new, default=fitted.unknown, return_dtype=dtype).fill_null(fitted.unknown)
