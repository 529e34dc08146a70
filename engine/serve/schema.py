"""What a request may carry: read fast when it is right, explained whole when it is not.

Enters: the request fields of a model's feature program, and bytes. Leaves: `Rows`, or `RefusedError` with every mistake and its
JSON path. Called by the application for `POST /predict` and `POST /events`, and by `engine predict`. Pure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from engine.clock import to_microseconds
from engine.features.timestamps import MAX_MOMENT, MIN_MOMENT
from engine.serve.mistakes import LONGEST_ID, Mistake, RefusedError, explain_document, explain_rows

PREDICTION_ID, EVENT_TIME, ROWS = "prediction_id", "event_time", "rows"

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ID)]
_TYPES: dict[str, Any] = {
    "bool": bool,
    "i64": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)],
    "f64": float,
    "str": str,
    "timestamp": datetime,
}
_MANY = re.compile(rb'\s*(\[|\{\s*"rows"\s*:\s*\[)')


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to score. `ids` and `times` (microseconds since 1970, UTC) have one entry a row, `columns` one list a field."""

    ids: Sequence[str]
    times: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    many: bool = True

    @property
    def count(self) -> int:
        """How many rows."""
        return len(self.ids)

    def part(self, start: int, stop: int) -> Rows:
        """Some of the rows."""
        columns = {name: values[start:stop] for name, values in self.columns.items()}
        return Rows(self.ids[start:stop], self.times[start:stop], columns)


def join_rows(parts: Sequence[Rows]) -> Rows:
    """All rows of several requests, in order, with the fields that all have: one may have been read for the model before."""
    if len(parts) == 1:
        return parts[0]
    shared = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    columns = {name: [value for part in parts for value in part.columns[name]] for name in shared}
    ids = [name for part in parts for name in part.ids]
    return Rows(ids, [time for part in parts for time in part.times], columns)


@dataclass(frozen=True)
class RequestSchema:
    """A compiled reader of request bodies. `ignored` are fields of an earlier model that are accepted and not used.

    Every field has to be there, and may be null: an absent field is more often a mistake of the caller than a null.
    """

    fields: Mapping[str, str]
    ignored: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        row = _row_type(self.fields, self.ignored)
        object.__setattr__(self, "_one", msgspec.json.Decoder(row))
        object.__setattr__(self, "_list", msgspec.json.Decoder(list[row]))  # type: ignore[valid-type]
        batch = msgspec.defstruct("Batch", [(ROWS, list[row])], forbid_unknown_fields=True)  # type: ignore[valid-type]
        object.__setattr__(self, "_batch", msgspec.json.Decoder(batch))
        object.__setattr__(self, "_moments", tuple(name for name, type_ in self.fields.items() if type_ == "timestamp"))

    def read(self, body: bytes, now: int, most: int) -> Rows:
        """Read one row, `{"rows": [...]}` or `[...]`; raises `RefusedError` with every mistake. `now` is the default event time."""
        opening = _MANY.match(body)
        try:
            if opening is None:
                return self._rows([self._one.decode(body)], now, many=False)  # type: ignore[attr-defined]
            found = self._list.decode(body) if opening[1] == b"[" else self._batch.decode(body).rows  # type: ignore[attr-defined]
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise explain_document(body, self.fields, self.ignored, str(error)) from None
        if not 0 < len(found) <= most:
            raise _wrong_count(len(found), most)
        return self._rows(found, now, many=True)

    def read_rows(self, documents: Sequence[Mapping[str, Any]], now: int) -> Rows:
        """Read rows that are decoded already, as those of a file are; raises `RefusedError`."""
        try:
            found = msgspec.convert(documents, self._list.type)  # type: ignore[attr-defined]
        except msgspec.ValidationError as error:
            raise explain_rows(documents, self.fields, self.ignored, str(error)) from None
        rows = self._rows(found, now, many=True)
        for name, type_ in self.fields.items():
            if type_ == "f64":  # JSON has no other doubles
                _refuse_infinite(rows.columns[name], name)
        return rows

    def _rows(self, found: Sequence[Any], now: int, *, many: bool) -> Rows:
        """Structs as columns. Moments become microseconds, absent ids are made, absent times are now."""
        given = list(zip(*map(msgspec.structs.astuple, found), strict=True))
        columns: dict[str, Sequence[Any]] = dict(zip(self.fields, given, strict=False))
        for name in self._moments:  # type: ignore[attr-defined]
            columns[name] = _moments(columns[name], name, many=many)
        ids = [name or os.urandom(12).hex() for name in given[-2]]
        times = [now if time is None else time for time in _moments(given[-1], EVENT_TIME, many=many)]
        return Rows(ids, times, columns, many)


def _row_type(fields: Mapping[str, str], ignored: Mapping[str, str]) -> type[msgspec.Struct]:
    """A struct with these fields first. Names are made up, since a field may be called `class`."""
    known = [(name, _TYPES[type_] | None) for name, type_ in fields.items()]
    made: list[Any] = [(f"f{index}", type_) for index, (_, type_) in enumerate(known)]
    names = {f"f{index}": name for index, (name, _) in enumerate(known)}
    for index, name in enumerate(ignored.keys() - fields.keys() - {PREDICTION_ID, EVENT_TIME}):
        made.append((f"i{index}", Any, None))
        names[f"i{index}"] = name
    made += [("made_id", _Id | None, None), ("made_time", datetime | None, None)]
    names |= {"made_id": PREDICTION_ID, "made_time": EVENT_TIME}
    return msgspec.defstruct("Row", made, rename=names, forbid_unknown_fields=True)


def _moments(values: Sequence[datetime | None], name: str, *, many: bool) -> list[int | None]:
    if not any(values):
        return [None] * len(values)
    made = [None if value is None else microseconds(value) for value in values]
    wrong = [index for index, value in enumerate(made) if value is not None and not MIN_MOMENT <= value <= MAX_MOMENT]
    if wrong:
        raise RefusedError(422, [Mistake(_path(index, name, many=many), "a moment of the years 1 to 9999 in UTC is expected",
                                    str(values[index])) for index in wrong])  # fmt: skip
    return made


def _refuse_infinite(values: Sequence[float | None], name: str) -> None:
    wrong = [index for index, value in enumerate(values) if value is not None and value - value != 0]
    if wrong:
        words = "a finite number is expected; write null for unknown"
        raise RefusedError(422, [Mistake(_path(index, name, many=True), words, str(values[index])) for index in wrong])


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970; a moment without a zone is in UTC.

    >>> microseconds(datetime(1970, 1, 1, 0, 0, 1))
    1000000
    """
    return to_microseconds(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def _path(index: int, name: str, *, many: bool) -> str:
    return f"$.rows[{index}].{name}" if many else f"$.{name}"


def _wrong_count(count: int, most: int) -> RefusedError:
    if count == 0:
        return RefusedError(422, [Mistake("$.rows", "there is no row to score")])
    words = f"{count} rows in one request; at most {most} are taken"
    return RefusedError(413, [Mistake("$.rows", words)], "send several requests, or use `engine predict` for files")


def reserved(fields: Mapping[str, str]) -> tuple[str, ...]:
    """The request fields whose names mean something else in a request, so that the model cannot be served.

    >>> reserved({"amount": "f64", "prediction_id": "str"})
    ('prediction_id',)
    """
    return tuple(name for name in fields if name in {PREDICTION_ID, EVENT_TIME, ROWS})
