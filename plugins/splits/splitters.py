"""The splitters themselves. Both are pure in rows and seed, and neither looks at a label's value."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import polars as pl

from engine.clock import to_microseconds
from engine.durations import microseconds
from engine.errors import DataError

from . import RandomParams, TimeForwardParams, parse_moment

TRAIN, VALIDATION, TEST, UNUSED = "train", "validation", "test", "unused"


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Ends of the three parts in microseconds of UTC, each excluded; `None` is open."""

    train: int
    validation: int | None
    test: int | None

    @property
    def test_from(self) -> int:
        """Where the test begins: at the validation's end, or at the training's when there is no validation."""
        return self.train if self.validation is None else self.validation


class TimeForward:
    """Trains on the past and judges on the future."""

    def __init__(self, params: TimeForwardParams) -> None:
        self._params = params

    def split(self, rows: pl.DataFrame, seed: int) -> pl.Series:  # noqa: ARG002 - time decides, nothing is drawn
        """Give each row's part; raises `DataError` when a part that was asked for is empty."""
        time, known = microseconds_of(rows, "event_time"), microseconds_of(rows, "label_known_at")
        ends = self._boundaries(time)
        embargo = microseconds(self._params.embargo)
        # A null (an unknown time, a label not known yet) makes every comparison null, and so `unused`.
        judged = (time >= ends.test_from) & (time < ends.test if ends.test is not None else time.is_not_null())
        frame = pl.DataFrame({
            TRAIN: (time < ends.train - embargo) & (known <= ends.train),
            # Without a validation the test begins where the training ends, and nothing lies between.
            VALIDATION: (time >= ends.train) & (time < ends.test_from - embargo) & (known <= ends.test_from),
            TEST: judged & known.is_not_null(),
        })  # fmt: skip
        part = frame.select(
            pl.when(pl.col(TRAIN)).then(pl.lit(TRAIN)).when(pl.col(VALIDATION)).then(pl.lit(VALIDATION))
            .when(pl.col(TEST)).then(pl.lit(TEST)).otherwise(pl.lit(UNUSED)).alias("part")
        )["part"]  # fmt: skip
        wanted = (TRAIN, VALIDATION, TEST) if ends.validation is not None else (TRAIN, TEST)
        refuse_empty(part, wanted, _span(rows))
        return part

    def _boundaries(self, time: pl.Series) -> Boundaries:
        given = self._params
        if given.train_until is not None:
            last = parse_moment("validation_until", given.validation_until) if given.validation_until else None
            end = parse_moment("test_until", given.test_until) if given.test_until else None
            return Boundaries(
                to_microseconds(parse_moment("train_until", given.train_until)),
                to_microseconds(last) if last else None,
                to_microseconds(end) if end else None,
            )
        ordered = time.drop_nulls().sort()
        if not len(ordered):
            raise DataError("no row has an event time, so there is nothing to split", hint="check `spine` and `time`")
        validation, test = given.shares
        # Rounded, as 1 - 0.15 - 0.2 is a little less than 0.65.
        first, second = (int(round(len(ordered) * share, 6)) for share in (1 - validation - test, 1 - test))
        most = len(ordered) - 1
        return Boundaries(int(ordered[min(first, most)]), int(ordered[min(second, most)]) if validation else None, None)


class RandomByHash:
    """Splits by a hash of an id: the same part for the same id, whatever else is in the data."""

    def __init__(self, params: RandomParams) -> None:
        self._params = params

    def split(self, rows: pl.DataFrame, seed: int) -> pl.Series:
        """Give each row's part; raises `DataError` for an unknown column, a null id, or an empty part."""
        given = self._params
        if given.by not in rows.columns:
            known = ", ".join(name for name in rows.columns if name != "label_known_at")
            raise DataError(f"split.by: the rows have no column `{given.by}`", hint=f"choose one of: {known}")
        ids = rows[given.by].cast(pl.String)
        if ids.null_count():
            raise DataError(f"split.by: {ids.null_count()} rows have no `{given.by}`", hint="split by row_id instead")
        key = blake2b(f"{seed}/{given.salt}".encode(), digest_size=32).digest()
        drawn = {text: _part_of(text, key, given) for text in ids.unique().to_list()}
        part = ids.replace_strict(drawn, return_dtype=pl.String).alias("part")
        refuse_empty(part, (TRAIN, VALIDATION, TEST) if given.validation else (TRAIN, TEST), f"{rows.height} rows")
        return part


def refuse_empty(part: pl.Series, wanted: tuple[str, ...], span: str) -> None:
    """Raise `DataError` that names the empty parts and says what there was to split."""
    present = set(part.unique().to_list())
    empty = [name for name in wanted if name not in present]
    if empty:
        counts = ", ".join(f"{name} {int((part == name).sum())}" for name in (*wanted, UNUSED))
        hint = "move the boundaries into the rows' time range, and see whether embargo or late labels left rows out"
        raise DataError(f"the split leaves no rows for {' and '.join(empty)} ({span}; {counts})", hint=hint)


def microseconds_of(rows: pl.DataFrame, column: str) -> pl.Series:
    """Give a column's moments in microseconds of UTC; raises `DataError` when it is not a timestamp."""
    if column not in rows.columns or not isinstance(rows.schema[column], pl.Datetime):
        raise DataError(f"the rows to split have no timestamp column `{column}`")
    return rows[column].dt.timestamp("us")


def _span(rows: pl.DataFrame) -> str:
    time = pl.col("event_time")
    first, last = rows.select(time.min().cast(pl.String), last=time.max().cast(pl.String)).row(0)
    return f"{rows.height} rows from {first} to {last}" if rows.height else "0 rows"


def _part_of(text: str, key: bytes, given: RandomParams) -> str:
    drawn = blake2b(text.encode(), key=key, digest_size=8)
    place = int.from_bytes(drawn.digest(), "big") / 2**64
    if place < given.test:
        return TEST
    return VALIDATION if place < given.test + given.validation else TRAIN
