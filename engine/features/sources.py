"""Ingest's side of a source: cast the declared columns, derive, filter, quantise; count what could not be kept.

Called by the ingest node with raw rows as a component read them. What leaves has the columns and types of the compiled
source, timestamps in UTC microseconds, no NaN, no infinity, no negative zero, and doubles at their declared decimals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from engine.errors import DataError
from engine.features.exact import quantise
from engine.features.frames import plain
from engine.features.lowered_functions import DTYPES, cast
from engine.features.lowering import evaluate, lower
from engine.features.steps import SourceProgram
from engine.features.timestamps import TIMESTAMP, within_range

_SHOWN = 10
_FLOATS = (pl.Float32, pl.Float64)


@dataclass(frozen=True, slots=True)
class Ingested:
    """Rows as declared. `not_finite`, `not_castable` and `not_quantisable` count values made null, by column.

    `lost` shows the first values that were not castable, with their rows counted from 1; `repeated` counts copies that were
    dropped.
    """

    frame: pl.DataFrame
    rows_read: int
    not_finite: Mapping[str, int]
    not_castable: Mapping[str, int]
    not_quantisable: Mapping[str, int]
    lost: Mapping[str, tuple[Mapping[str, str], ...]] = field(default_factory=dict)
    repeated: int = 0


def apply_source(program: SourceProgram, frame: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """The rows of a source as declared; raises `DataError` for a missing column or an impossible conversion."""
    return ingest_source(program, frame).frame


def ingest_source(program: SourceProgram, frame: pl.DataFrame | pl.LazyFrame) -> Ingested:
    """As `apply_source`, with counts of the values that became null on the way."""
    raw = frame.collect() if isinstance(frame, pl.LazyFrame) else frame
    missing = [name for name in program.declared if name not in raw.columns]
    if missing:
        raise DataError(
            f"source `{program.name}`: no column {', '.join(missing)}; found: {', '.join(raw.columns)}",
            hint=f"correct sources.{program.name}.columns",
        )
    not_finite, not_castable, not_quantisable = {}, {}, {}
    lost_values: dict[str, tuple[Mapping[str, str], ...]] = {}
    columns = []
    for name, type_ in program.declared.items():
        values, lost = _finite(raw[name])
        made = _cast(program.name, values, type_)
        if made.null_count() > values.null_count():
            lost_values[name] = _first_lost(values, made)
        if name in program.decimals:
            made, unfit = _quantised(made, program.decimals[name])
            not_quantisable[name] = unfit
        not_finite[name] = lost
        not_castable[name] = made.null_count() - values.null_count() - not_quantisable.get(name, 0)
        columns.append(made)
    work = pl.DataFrame(columns)
    types = dict(program.declared)
    for step in program.derive:
        work = work.hstack(evaluate(lower({step.name: step.expr}, types), work))
        if step.name in program.decimals:
            values, unfit = _quantised(work[step.name], program.decimals[step.name])
            not_quantisable[step.name] = unfit
            work = work.with_columns(values)
        work = work.with_columns(plain(work[step.name]))
        types[step.name] = step.type
    if program.where is not None:
        work = work.filter(evaluate(lower({"where": program.where}, types), work)["where"])
    return Ingested(work, raw.height, _some(not_finite), _some(not_castable), _some(not_quantisable), lost_values)


def _first_lost(values: pl.Series, made: pl.Series) -> tuple[Mapping[str, str], ...]:
    """Give the first values that became null, as text."""
    at = (made.is_null() & values.is_not_null()).arg_true().head(_SHOWN)
    texts = values.gather(at).cast(pl.String, strict=False)
    return tuple({"row": str(row + 1), values.name: text} for row, text in zip(at.to_list(), texts, strict=True))


def _some(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _finite(values: pl.Series) -> tuple[pl.Series, int]:
    """Doubles with NaN and infinities made null, and how many there were."""
    if values.dtype not in _FLOATS:
        return values, 0
    kept = values.to_frame().select(pl.when(pl.first().is_finite()).then(pl.first()).alias(values.name)).to_series()
    return kept, kept.null_count() - values.null_count()


def _quantised(values: pl.Series, decimals: int) -> tuple[pl.Series, int]:
    quanta, valid = quantise(values, decimals)
    exact = pl.Series(values.name, quanta / 10.0**decimals)
    kept = exact.to_frame().select(pl.when(pl.Series(valid)).then(pl.first()).alias(values.name)).to_series()
    return kept, kept.null_count() - values.null_count()


def _cast(source: str, values: pl.Series, type_: str) -> pl.Series:
    """One raw column as its declared type; a value that does not convert is null."""
    try:
        convert = _converted(pl.col(values.name), values.dtype, type_).alias(values.name)
        if type_ == "timestamp" and values.dtype == pl.String and values.n_unique() * 2 < len(values):
            made = _each_once(values, convert)
        else:
            made = values.to_frame().select(convert).to_series()
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"source `{source}`: column `{values.name}` is {values.dtype} and cannot be read as {type_}: {error}",
            hint=f"correct sources.{source}.columns.{values.name}",
        ) from error
    return plain(made)


def _each_once(values: pl.Series, convert: pl.Expr) -> pl.Series:
    """Convert every distinct value once: reading a moment from text costs more than looking it up."""
    distinct = values.unique().to_frame()
    table = distinct.with_columns(distinct.select(convert.alias("\x00made")).to_series())
    found = values.to_frame().join(table, on=values.name, how="left", nulls_equal=True, maintain_order="left")
    return found["\x00made"].alias(values.name)


def _converted(column: pl.Expr, dtype: pl.DataType, type_: str) -> pl.Expr:
    match type_:
        case "timestamp" if isinstance(dtype, pl.Datetime):
            zoned = column if dtype.time_zone else column.dt.replace_time_zone("UTC")
            return within_range(zoned.dt.convert_time_zone("UTC").cast(TIMESTAMP, strict=False))
        case "timestamp" if dtype == pl.Date:
            return within_range(column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
        case "timestamp" if dtype not in (pl.String, pl.Null):
            raise pl.exceptions.InvalidOperationError("only dates, times and texts are moments")
        case "i64" if dtype in _FLOATS:
            return pl.when(column == column.floor()).then(column).cast(pl.Int64, strict=False)
        case "bool" if dtype.is_numeric():
            return pl.when(column.is_in([0, 1])).then(column == 1)
        case _ if dtype in (pl.String, pl.Categorical, pl.Enum):
            return cast(column.cast(pl.String), "str", type_)
        case _:
            return column.cast(DTYPES[type_], strict=False)
