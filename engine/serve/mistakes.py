"""Every mistake of a request at once, each with its JSON path, its value and what is allowed. Pure.

Called when the fast reader of `schema` refused a body, so nothing here has to be fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import msgspec

LONGEST_ID = 200
_SHOWN, _LONGEST_VALUE = 50, 80
_ALLOWED = {
    "bool": "true, false or null",
    "i64": "a whole number of 64 bits, or null",
    "f64": "a number, or null",
    "str": "a string, or null",
    "timestamp": "a moment such as 2013-11-03T12:00:00Z, or null",
}


class Mistake(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong; `path` is a JSON path into the body."""

    path: str
    message: str
    value: str | None = None
    allowed: str | None = None


class RefusedError(Exception):
    """A request that is not answered as asked: the HTTP status, what is wrong, and what to do."""

    def __init__(self, status: int, mistakes: Sequence[Mistake], hint: str | None = None) -> None:
        super().__init__("; ".join(f"{item.path}: {item.message}" for item in mistakes))
        self.status = status
        self.mistakes = tuple(mistakes)
        self.hint = hint


def explain_document(body: bytes, fields: Mapping[str, str], ignored: Mapping[str, str], words: str) -> RefusedError:
    """Say what is wrong with a body that the fast reader refused with `words`."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return RefusedError(400, [Mistake("$", f"not JSON: {error}")])
    except RecursionError:
        return RefusedError(400, [Mistake("$", "JSON nested too deeply")])
    if isinstance(document, dict) and isinstance(document.get("rows"), list) and "rows" not in fields:
        extra = [Mistake(f"$.{key}", "unknown key beside `rows`") for key in document if key != "rows"]
        mistakes = extra + list(_rows(document["rows"], fields, ignored))
    elif isinstance(document, list):
        mistakes = list(_rows(document, fields, ignored))
    else:
        mistakes = list(_row("$", document, fields, ignored))
    return _refuse(mistakes, words)


def explain_rows(
    rows: Sequence[Any], fields: Mapping[str, str], ignored: Mapping[str, str], words: str
) -> RefusedError:
    """The same for rows that are decoded already."""
    return _refuse(list(_rows(rows, fields, ignored)), words)


def _refuse(mistakes: list[Mistake], words: str) -> RefusedError:
    more = len(mistakes) - _SHOWN
    shown = mistakes[:_SHOWN] or [Mistake("$", words)]
    return RefusedError(422, shown, f"and {more} more mistakes" if more > 0 else None)


def _rows(rows: Sequence[Any], fields: Mapping[str, str], ignored: Mapping[str, str]) -> Iterator[Mistake]:
    for index, row in enumerate(rows):
        yield from _row(f"$.rows[{index}]", row, fields, ignored)


def _row(path: str, row: Any, fields: Mapping[str, str], ignored: Mapping[str, str]) -> Iterator[Mistake]:
    if not isinstance(row, dict):
        yield Mistake(path, "an object with the request's fields is expected", shorten(row), ", ".join(fields))
        return
    known = {**fields, "prediction_id": "str", "event_time": "timestamp"}
    for name, type_ in known.items():
        if name in row:
            found = misfit(row[name], type_)
            if found is None and name == "prediction_id" and row[name] is not None:
                found = None if 0 < len(row[name]) <= LONGEST_ID else f"1 to {LONGEST_ID} characters are expected"
            if found is not None:
                yield Mistake(f"{path}.{name}", found, shorten(row[name]), _ALLOWED[type_])
        elif name in fields:
            yield Mistake(f"{path}.{name}", "missing; write null when it is not known", None, _ALLOWED[type_])
    for name in row:
        if name not in known and name not in ignored:
            near = get_close_matches(str(name), list(known), 1)
            meant = f" (did you mean `{near[0]}`?)" if near else ""
            yield Mistake(f"{path}.{name}", f"unknown field{meant}", shorten(row[name]), ", ".join(known))


def misfit(value: Any, type_: str) -> str | None:
    """Say why a JSON value is not of a column type; `None` when it is, or is null."""
    if value is None:
        return None
    match type_:
        case "bool":
            right = isinstance(value, bool)
        case "i64":
            right = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
        case "f64":
            right = isinstance(value, int | float) and not isinstance(value, bool) and _is_double(value)
        case "timestamp":
            right = _is_moment(value)
        case _:
            right = isinstance(value, str)
    return None if right else f"{type_} expected, {_name(value)} found"


def _is_double(value: float) -> bool:
    try:
        return float(value) - float(value) == 0
    except OverflowError:
        return False


def _is_moment(value: Any) -> bool:
    try:
        msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return False
    return True


def _name(value: Any) -> str:
    names = {
        bool: "a boolean",
        int: "a whole number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)


def shorten(value: Any) -> str:
    """A value for a message, cut."""
    text = msgspec.json.encode(value).decode(errors="replace")
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
