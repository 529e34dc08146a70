"""The events of one key as arrays: what a store or a frame hands to the evaluation of one request. No Polars frame needed.

`prepared` asks an `EventReader` for the rows of each join that a request needs and computes features from them. The online
store decodes its blocks into `Values` and gives `Events` in total order; `frames_reader` does the same from frames. What is
derived from events (an operand's integers, prefix sums) is kept with them, so a reader that gives the same `Events` again
for a key that has not changed makes the next request of that key cheaper.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from engine.features.exact import Flags
from engine.features.frames import Ints
from engine.features.lowered_functions import DTYPES
from engine.features.matching import On
from engine.features.steps import FeatureProgram, Lookup, SourceProgram, Window
from engine.features.syntax import Column as ColumnNode
from engine.features.syntax import Expression, walk
from engine.features.timeline import LONGEST, Timeline, build_timeline

T = TypeVar("T")
Scalar: TypeAlias = bool | int | float | str | None
"""One value of a row as plain Python: a timestamp is integer microseconds since 1970 in UTC."""
Key: TypeAlias = tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Values:
    """One column: `data` (n,) and where it is valid (`None`: everywhere); what stands where it is not does not matter.

    f64 is float64, finite and without negative zeros; i64, and timestamps in microseconds, are int64; bool is int64, 0 or
    1; str is int64, places among `texts`, which are distinct and in ascending order.
    """

    type: str
    data: npt.NDArray[Any]
    valid: Flags | None = None
    texts: Sequence[str] = ()

    @staticmethod
    def of(type_: str, values: Sequence[Scalar]) -> Values:
        """Plain values (None for null) as a column.

        >>> Values.of("str", ["b", None, "a", "b"]).data.tolist()
        [1, 0, 0, 1]
        """
        valid = np.array([value is not None for value in values], dtype=np.bool_)
        flags = None if valid.all() else valid
        if type_ == "str":
            texts = sorted({value for value in values if isinstance(value, str)})
            place: dict[Any, int] = {text: number for number, text in enumerate(texts)}
            return Values(type_, np.array([place.get(value, 0) for value in values], dtype=np.int64), flags, texts)
        dtype = np.float64 if type_ == "f64" else np.int64
        return Values(type_, np.array([0 if value is None else value for value in values], dtype=dtype), flags)

    def __getitem__(self, row: int) -> Scalar:
        """The value of one row."""
        if self.valid is not None and not self.valid[row]:
            return None
        match self.type:
            case "f64":
                return float(self.data[row])
            case "bool":
                return bool(self.data[row])
            case "str":
                return self.texts[int(self.data[row])]
            case _:
                return int(self.data[row])

    def series(self, name: str) -> pl.Series:
        """The same as a Polars column."""
        if self.type == "str":
            texts = pl.Series(name, self.texts, dtype=pl.String)
            if texts.is_empty():
                return pl.Series(name, [None], dtype=pl.String).new_from_index(0, len(self.data))
            made = texts.gather(self.data)
        else:
            made = pl.Series(name, self.data).cast(DTYPES[self.type])
        if self.valid is None:
            return made
        return made.to_frame().select(pl.when(pl.Series(self.valid)).then(pl.first()).alias(name)).to_series()


def values_of(series: pl.Series, type_: str) -> Values:
    """A conformed Polars column as arrays."""
    valid = series.is_not_null().to_numpy() if series.null_count() else None
    match type_:
        case "str":
            texts = series.drop_nulls().unique().sort()
            places = pl.Series(range(len(texts)), dtype=pl.Int64)
            codes = series.replace_strict(texts, places, default=None, return_dtype=pl.Int64) if len(texts) else series
            data = codes.cast(pl.Int64).fill_null(0).to_numpy()
            return Values(type_, data, valid, texts.to_list())
        case "f64":
            return Values(type_, series.fill_null(0.0).to_numpy(), valid)
        case "timestamp":
            return Values(type_, series.dt.epoch("us").cast(pl.Int64).fill_null(0).to_numpy(), valid)
        case _:
            return Values(type_, series.cast(pl.Int64).fill_null(0).to_numpy(), valid)


@dataclass(frozen=True, slots=True)
class Events:
    """Rows of one source in the total order `(time, id)`; arrays have one entry a row, in microseconds.

    A row counts at T iff `time < T`, `available <= T` and `T <= until`: `until` is the microsecond before a later version
    of the same id becomes available (whatever its key and time), `timeline.FOREVER` without one, and `None` says that no
    row has one. A static dimension's rows have `-timeline.FOREVER` as time and availability. Rows that do not count at
    the time that is asked for may be among them: every rule is applied by the evaluation.
    """

    time: Ints
    available: Ints
    columns: Mapping[str, Values]
    until: Ints | None = None
    _kept: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.time)

    def keep(self, key: Hashable, make: Callable[[Events], T]) -> T:
        """What is derived from these rows under `key`, made when it is first asked for."""
        if key not in self._kept:
            self._kept[key] = make(self)
        return self._kept[key]  # type: ignore[no-any-return]

    def frame(self, names: Sequence[str]) -> pl.DataFrame:
        """Some columns as a Polars frame."""
        return pl.DataFrame([self.columns[name].series(name) for name in names])


@dataclass(frozen=True, slots=True)
class Join:
    """What a program reads of one source by one key.

    `on` pairs source and frame columns; `columns` are the source columns whose values decide a feature; `reach` is how
    far back rows count, in microseconds, and `None` is without end (a lookup without `max_age`).
    """

    source: str
    on: On
    columns: tuple[str, ...]
    reach: int | None


class EventReader(Protocol):
    """Finds the events that a request needs: a store, or frames."""

    def read(self, join: Join, key: Key, at: int) -> Events:
        """The rows of `join.source` whose `join.on` columns have these values (none null), as far as they count at `at`.

        At least those with `at - join.reach <= time < at` and `available <= at`; without a reach, all earlier ones, of
        which only the latest that counts is looked at. More rows do no harm.
        """
        ...


def joins_of(program: FeatureProgram) -> tuple[Join, ...]:
    """Every join of a program: what a store has to be able to find."""
    found: dict[tuple[str, On], tuple[set[str], list[int | None]]] = {}
    for step in program.steps:
        if isinstance(step, Lookup | Window):
            columns, reaches = found.setdefault((step.source, step.on), (set(), []))
            columns |= _columns_of(step)
            reaches.append(step.window if isinstance(step, Window) else step.max_age)
    return tuple(
        Join(source, on, tuple(name for name in program.sources[source].columns if name in columns), _longest(reaches))
        for (source, on), (columns, reaches) in found.items()
    )


def _columns_of(step: Lookup | Window) -> set[str]:
    if isinstance(step, Lookup):
        return {step.column}
    trees: list[Expression] = [tree for tree in (step.of, step.where) if tree is not None]
    return {node.name for tree in trees for node, _ in walk(tree) if isinstance(node, ColumnNode)}


def _longest(reaches: Sequence[int | None]) -> int | None:
    bounded = [reach for reach in reaches if reach is not None]
    return min(max(bounded), LONGEST) if len(bounded) == len(reaches) else None


def events_of(source: SourceProgram, frame: pl.DataFrame, as_of: int | None = None) -> Events:
    """All rows of a frame as events: ordered, with when each counts; the frame as ingested."""
    return _events(source, build_timeline(source, frame, as_of), None)


def _events(source: SourceProgram, line: Timeline, rows: Ints | None) -> Events:
    chosen = slice(None) if rows is None else rows
    frame = line.frame if rows is None else line.frame[rows]
    columns = {name: values_of(frame[name], type_) for name, type_ in source.columns.items()}
    return Events(line.time[chosen], line.available[chosen], columns, line.until[chosen])


class FrameReader:
    """Events from frames, each key's made once: for tests, for files of requests, and as the reference for stores."""

    def __init__(self, program: FeatureProgram, history: Mapping[str, pl.DataFrame], as_of: int | None = None) -> None:
        self._program = program
        self._lines = {
            name: build_timeline(program.sources[name], history[name], as_of) for name in program.feature_sources
        }
        self._places: dict[tuple[str, On], dict[Key, list[int]]] = {}
        self._made: dict[tuple[str, On, Key], Events] = {}

    def read(self, join: Join, key: Key, at: int) -> Events:  # noqa: ARG002 - everything of the key is given
        """See `EventReader`."""
        wanted = (join.source, join.on, key)
        if wanted not in self._made:
            rows = np.array(self._rows_by_key(join).get(key, []), dtype=np.int64)
            source = self._program.sources[join.source]
            self._made[wanted] = _events(source, self._lines[join.source], rows)
        return self._made[wanted]

    def _rows_by_key(self, join: Join) -> dict[Key, list[int]]:
        where = (join.source, join.on)
        if where not in self._places:
            frame, source = self._lines[join.source].frame, self._program.sources[join.source]
            columns = [
                frame[name].dt.epoch("us").to_list() if source.columns[name] == "timestamp" else frame[name].to_list()
                for name, _ in join.on
            ]
            places: dict[Key, list[int]] = {}
            keys = zip(*columns, strict=True) if columns else ((),) * frame.height
            for row, key in enumerate(keys):
                places.setdefault(key, []).append(row)
            self._places[where] = places
        return self._places[where]
