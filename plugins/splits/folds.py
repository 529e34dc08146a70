"""Splitters by group, by strata, by rolling origin and by purged folds. Pure in rows and seed."""

from __future__ import annotations

from hashlib import blake2b

import polars as pl

from engine.durations import microseconds
from engine.errors import DataError

from . import PurgedParams, RollingParams, StratifiedParams
from .splitters import TEST, TRAIN, UNUSED, VALIDATION, microseconds_of, refuse_empty

_PART = "part"


class Stratified:
    """Cuts exact shares of every stratum, in the order of a hash of the rows' ids."""

    def __init__(self, params: StratifiedParams) -> None:
        self._params = params

    def split(self, rows: pl.DataFrame, seed: int) -> pl.Series:
        """Give each row's part; raises `DataError` for an unknown column, or when a part stays empty."""
        given = self._params
        if given.by not in rows.columns:
            hint = f"choose one of: {', '.join(rows.columns)}"
            raise DataError(f"split.by: the rows have no column `{given.by}`", hint=hint)
        ids = rows["row_id"].cast(pl.String)
        drawn = pl.Series("drawn", [_drawn(text, f"{seed}/{given.salt}") for text in ids.to_list()], dtype=pl.UInt64)
        stratum = rows[given.by].cast(pl.String).fill_null("(null)")
        place = pl.DataFrame({"stratum": stratum, "drawn": drawn}).select(
            # The middle of a row's place: of few rows, the shares are rounded and none is always rounded down.
            share=((pl.col("drawn").rank("ordinal").over("stratum") - 0.5) / pl.len().over("stratum"))
        )["share"]
        part = pl.select(
            pl.when(place < given.test).then(pl.lit(TEST))
            .when(place < given.test + given.validation).then(pl.lit(VALIDATION))
            .otherwise(pl.lit(TRAIN)).alias(_PART)
        )[_PART] if rows.height else pl.Series(_PART, [], dtype=pl.String)  # fmt: skip
        refuse_empty(part, (TRAIN, VALIDATION, TEST) if given.validation else (TRAIN, TEST), f"{rows.height} rows")
        return part


class RollingOrigin:
    """Stands at one of several origins: trains on what was known there, judges the horizon after it."""

    def __init__(self, params: RollingParams) -> None:
        self._params = params

    def split(self, rows: pl.DataFrame, seed: int) -> pl.Series:  # noqa: ARG002 - time decides, nothing is drawn
        """Give each row's part; raises `DataError` when the origin leaves a part empty."""
        given = self._params
        time, known = microseconds_of(rows, "event_time"), microseconds_of(rows, "label_known_at")
        if time.null_count() == len(time):
            raise DataError("no row has an event time, so there is nothing to split", hint="check `spine` and `time`")
        horizon, held, embargo = (microseconds(text) for text in (given.horizon, given.validation, given.embargo))
        step = microseconds(given.step) if given.step else horizon
        last: int = time.max()  # type: ignore[assignment]
        origin = last + 1 - horizon - step * given.back
        begin = origin - held
        first = begin - microseconds(given.window) if given.window else None
        frame = pl.DataFrame({
            TRAIN: (time < begin - embargo) & (known <= begin) & (time >= first if first is not None else time.is_not_null()),
            VALIDATION: (time >= begin) & (time < origin - embargo) & (known <= origin),
            TEST: (time >= origin) & (time < origin + horizon) & known.is_not_null(),
        })  # fmt: skip
        part = _first_true(frame)
        refuse_empty(part, (TRAIN, VALIDATION, TEST) if held else (TRAIN, TEST), f"{rows.height} rows")
        return part


class Purged:
    """Tests on one block of time; trains on both sides of it, without rows whose label reaches into it or that follow it."""

    def __init__(self, params: PurgedParams) -> None:
        self._params = params

    def split(self, rows: pl.DataFrame, seed: int) -> pl.Series:  # noqa: ARG002 - time decides, nothing is drawn
        """Give each row's part; raises `DataError` when a part stays empty."""
        given = self._params
        time, known = microseconds_of(rows, "event_time"), microseconds_of(rows, "label_known_at")
        ordered = time.drop_nulls().sort()
        if len(ordered) < given.folds:
            raise DataError(
                f"{len(ordered)} rows have a time, and {given.folds} folds need one each", hint="use fewer folds"
            )
        edges = [int(ordered[len(ordered) * k // given.folds]) for k in range(given.folds)]
        ends = [*edges[1:], int(ordered[-1]) + 1]
        held = given.fold - 1 if given.fold > 0 else given.fold + 1  # a neighbour stops the training
        judged = _in_block(time, known, edges[given.fold], ends[given.fold])
        stops = _in_block(time, known, edges[held], ends[held])
        clear = time.is_not_null() & known.is_not_null()
        for block in (given.fold, held):
            clear &= _clear_of(time, known, (edges[block], ends[block]), microseconds(given.embargo))
        stops &= _clear_of(time, known, (edges[given.fold], ends[given.fold]), microseconds(given.embargo))
        part = _first_true(pl.DataFrame({TEST: judged, VALIDATION: stops, TRAIN: clear}))
        refuse_empty(part, (TRAIN, VALIDATION, TEST), f"{rows.height} rows")
        return part


def _in_block(time: pl.Series, known: pl.Series, start: int, end: int) -> pl.Series:
    return (time >= start) & (time < end) & known.is_not_null()


def _clear_of(time: pl.Series, known: pl.Series, block: tuple[int, int], embargo: int) -> pl.Series:
    """Say which rows' labels, from their event until they are known, do not overlap a block, nor begin soon after it."""
    start, end = block
    return (known <= start) | (time >= end + embargo)


def _first_true(frame: pl.DataFrame) -> pl.Series:
    """Give the name of each row's first true column; a null condition is false."""
    chosen = pl.lit(UNUSED)
    for name in reversed(frame.columns):
        chosen = pl.when(pl.col(name)).then(pl.lit(name)).otherwise(chosen)
    return frame.select(chosen.alias(_PART))[_PART]


def _drawn(text: str, salt: str) -> int:
    key = blake2b(salt.encode(), digest_size=32).digest()
    return int.from_bytes(blake2b(text.encode(), key=key, digest_size=8).digest(), "big")
