"""Scoring a file: rows in CSV, Parquet or NDJSON, each at its own event time, through the scorer that answers requests.

Enters: a path or `-` for standard input, a scorer. Leaves: the same rows with `prediction_id`, `event_time`, `score`, `model`.
Called by `engine predict`. Values that do not fit are told with their row and column, all at once.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from engine.errors import DataError, UsageError
from engine.features.lowered_functions import DTYPES
from engine.features.timestamps import parse_timestamps
from engine.serve.schema import EVENT_TIME, PREDICTION_ID, Rows
from engine.serve.scorer import Scorer

FORMATS = ("csv", "parquet", "ndjson")
_SHOWN = 10
_TIME = DTYPES["timestamp"]


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """What became of a file."""

    rows: int
    without_score: int


def format_of(name: str, given: str | None) -> str:
    """The format by a flag or by the ending; raises `UsageError` when neither says."""
    ending = Path(name).suffix.lstrip(".").lower().replace("jsonl", "ndjson")
    found = given or ending
    if found not in FORMATS:
        raise UsageError(
            f"{name}: which format is that?", hint=f"say --format or --output-format: {', '.join(FORMATS)}"
        )
    return found


def read_rows(name: str, kind: str) -> pl.DataFrame:
    """Read a whole file; text stays text. Raises `DataError`."""
    source: Any = io.BytesIO(sys.stdin.buffer.read()) if name == "-" else Path(name)
    try:
        match kind:
            case "csv":
                return pl.read_csv(source, infer_schema=False)
            case "parquet":
                return pl.read_parquet(source, glob=False)
            case _:
                return pl.read_ndjson(source, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{name} cannot be read as {kind}: {error}", hint="say --format when the ending misleads"
        ) from error


def write_rows(frame: pl.DataFrame, name: str, kind: str) -> None:
    """Write whole or not at all: under another name, then renamed. `-` is standard output."""
    target = Path(name)
    made: Any = sys.stdout.buffer if name == "-" else target.with_name(f".{target.name}.{os.getpid()}")
    try:
        match kind:
            case "csv":
                frame.write_csv(made, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
            case "parquet":
                frame.write_parquet(made)
            case _:
                frame.write_ndjson(made)
        if name != "-":
            made.replace(target)
    except OSError as error:
        raise DataError(f"{name} cannot be written: {error}") from error


def typed(frame: pl.DataFrame, fields: Mapping[str, str], now: int) -> pl.DataFrame:
    """Exactly the fields in their types, an id and a time a row; raises `DataError` with every misfit."""
    missing = [name for name in fields if name not in frame.columns]
    if missing:
        raise DataError(f"no column {', '.join(missing)}; found: {', '.join(frame.columns) or 'none'}")
    problems: list[str] = []
    columns = [_typed(frame[name], type_, problems) for name, type_ in fields.items()]
    if EVENT_TIME in frame.columns:
        columns.append(_typed(frame[EVENT_TIME], "timestamp", problems).fill_null(pl.lit(now).cast(_TIME)))
    else:
        columns.append(pl.Series(EVENT_TIME, [now], dtype=pl.Int64).cast(_TIME).new_from_index(0, frame.height))
    if problems:
        raise DataError("\n".join(problems), hint="write an empty value or null for unknown")
    ids = (
        frame[PREDICTION_ID].cast(pl.String)
        if PREDICTION_ID in frame.columns
        else pl.Series([None] * frame.height, dtype=pl.String)
    )
    made = [name or os.urandom(12).hex() for name in ids.to_list()]
    return pl.DataFrame([*columns, pl.Series(PREDICTION_ID, made, dtype=pl.String)])


def _typed(values: pl.Series, type_: str, problems: list[str]) -> pl.Series:
    column = pl.col(values.name)
    if values.dtype == pl.String and type_ == "timestamp":
        made = values.to_frame().select(parse_timestamps(column)).to_series()
    elif values.dtype == pl.String and type_ == "bool":
        table = {"true": True, "false": False, "1": True, "0": False, "": None}
        made = values.str.to_lowercase().replace_strict(table, default=None, return_dtype=pl.Boolean)
    else:
        blank = values.dtype == pl.String and type_ != "str"
        values = values.set(values == "", None) if blank else values
        try:
            made = values.cast(DTYPES[type_], strict=False)
        except pl.exceptions.PolarsError as error:
            problems.append(f"column {values.name}: {values.dtype} is not {type_}: {error}")
            return pl.Series(values.name, [None], dtype=DTYPES[type_]).new_from_index(0, len(values))
    lost = (made.is_null() & values.is_not_null()).arg_true().head(_SHOWN)
    problems += [f"row {row + 1}, column {values.name}: {values[row]!r} is not {type_}" for row in lost.to_list()]
    return made.alias(values.name)


def parts_of(frame: pl.DataFrame, fields: Mapping[str, str], size: int) -> Iterator[Rows]:
    """Rows in portions, as the scorer takes them."""
    for part in frame.iter_slices(size):
        columns = {
            name: (part[name].dt.epoch("us") if type_ == "timestamp" else part[name]).to_list()
            for name, type_ in fields.items()
        }
        yield Rows(part[PREDICTION_ID].to_list(), part[EVENT_TIME].dt.epoch("us").to_list(), columns)


def score_frame(
    frame: pl.DataFrame, scorer: Scorer, now: int, progress: Callable[[int, int], None], size: int = 5_000
) -> tuple[pl.DataFrame, ScoredFile]:
    """Score every row; the given columns stay, and the answer's are added."""
    fields = scorer.served.program.spine.request
    rows = typed(frame, fields, now)
    scores: list[pl.DataFrame] = []
    done = 0
    for part in parts_of(rows, fields, size):
        scored = scorer.score(part)
        made = [pl.Series("score", scored.scores, nan_to_null=True)]
        if scored.outputs is not None:
            names = scorer.served.model.target.outputs
            made += [pl.Series(f"score_{name}", scored.outputs[:, place]) for place, name in enumerate(names)]
        scores.append(pl.DataFrame(made))
        done += part.count
        progress(done, rows.height)
    score = pl.concat(scores) if scores else pl.DataFrame(schema={"score": pl.Float64})
    kept = frame.drop(PREDICTION_ID, EVENT_TIME, *score.columns, "model", strict=False)
    named = rows.select(PREDICTION_ID, EVENT_TIME).hstack(score)
    answers = named.with_columns(pl.lit(scorer.served.label).alias("model"))
    return answers.hstack(kept), ScoredFile(rows.height, score["score"].null_count())
