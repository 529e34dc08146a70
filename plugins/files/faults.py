"""What is wrong with a text file, in words: its header, or the first row or cell that is not what was declared.

Called before reading (header), after a reader's refusal, and where a row may be too short: slow and exact, one line at a
time.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, BinaryIO

from engine.errors import DataError

from .items import Layout, LocalFile

_INTEGER_LIMIT = 2**63
_LONGEST_FIELD = 1 << 30
_ENCODING = "say `encoding: latin1`, or convert it to UTF-8"


def nearest(name: str, names: Iterable[str]) -> str:
    """Suggest the nearest of some names."""
    near = get_close_matches(name, list(names), 1)
    return f" (did you mean `{near[0]}`?)" if near else ""


def absent(file: LocalFile, name: str, names: Iterable[str]) -> DataError:
    """Say that a file has no such column, and which it has."""
    known = list(names)
    more = f" and {len(known) - 40} more" if len(known) > 40 else ""
    return DataError(
        f"{file} has no column `{name}`{nearest(name, known)}", hint=f"it has: {', '.join(known[:40])}{more}"
    )


def read_header(file: LocalFile, head: bytes, layout: Layout) -> list[str]:
    """Give a CSV file's header; refuses one that lacks a declared column, or has one twice."""
    text = head.removeprefix(b"\xef\xbb\xbf")
    lines = text.lstrip(b"\r\n").split(b"\n", 1)[0]
    try:
        lines.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}, line 1: not UTF-8 at byte {error.start}", hint=_ENCODING) from error
    reader = csv.reader(io.StringIO(text.decode(errors="replace"), newline=""), **_dialect(layout))
    csv.field_size_limit(_LONGEST_FIELD)
    header = next((row for row in reader if row), [])
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{file}: the header has {', '.join(twice)} twice", hint="give every column a name of its own")
    for name in layout.columns:
        if name not in header:
            raise absent(file, name, header)
    return header


def explain_csv(file: LocalFile, content: bytes | None, layout: Layout, error: Exception) -> DataError:
    """Find why a reader refused a file."""
    fault = find_csv_fault(file, content, layout)
    if fault is not None:
        return fault
    words = str(error).strip().splitlines()
    return DataError(
        f"{file} cannot be read: {words[0] if words else type(error).__name__}",
        hint="check delimiter, quotes and encoding",
    )


def find_csv_fault(file: LocalFile, content: bytes | None, layout: Layout) -> DataError | None:
    """Find the first row that is broken, or the first cell that is not of its declared type."""
    csv.field_size_limit(_LONGEST_FIELD)
    with _open(file, content) as stream:
        return _first_fault(file, _Lines(stream), layout)


def _first_fault(file: LocalFile, lines: _Lines, layout: Layout) -> DataError | None:
    reader = csv.reader(lines, **_dialect(layout))
    try:
        header = next((row for row in reader if row), [])
        lines.row.clear()
        for number, row in enumerate(reader, 1):
            place = f"{file}, data row {number} (line {lines.number})"
            quotes = sum(line.count(layout.params.quote) for line in lines.row) if layout.params.quote else 0
            if quotes % 2:
                place = f"{file}, data row {number} (line {lines.number - len(lines.row) + 1})"
                return DataError(f"{place}: a quote is opened and never closed", hint="close it, or say `quote: null`")
            lines.row.clear()
            fault = _row_fault(place, header, row) or _cell_fault(f"{file}, data row {number}", header, row, layout)
            if fault is not None:
                return fault
    except UnicodeDecodeError as error:
        return DataError(f"{file}, line {lines.number}: not UTF-8 at byte {error.start} of it", hint=_ENCODING)
    except csv.Error as error:
        return DataError(f"{file}, line {lines.number}: {error}", hint="check delimiter and quotes")
    return None


def _row_fault(place: str, header: list[str], row: list[str]) -> DataError | None:
    if not row and len(header) > 1:
        return DataError(f"{place}: a blank line", hint="remove it")
    if row and len(row) != len(header):
        fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
        return DataError(
            f"{place}: {fields}, and the header has {len(header)}",
            hint="is the line cut off, or a field with a delimiter unquoted?",
        )
    return None


def _cell_fault(place: str, header: list[str], row: list[str], layout: Layout) -> DataError | None:
    for name, value in zip(header, row, strict=False):
        type_ = layout.columns.get(name)
        if type_ is not None and value and value not in layout.params.null_values and not _fits(value, type_):
            return DataError(
                f"{place}, column `{name}`: {value[:80]!r} is not {type_}",
                hint=f"correct the file, declare `{name}` otherwise, or list it under `null_values`",
            )
    return None


def explain_ndjson(file: LocalFile, content: bytes | None, layout: Layout, error: Exception) -> DataError:
    """Find the first line that is no JSON object, or the first value that is not of its declared type."""
    with _open(file, content) as stream:
        for number, line in enumerate(stream, 1):
            fault = _line_fault(f"{file}, line {number}", line, layout)
            if fault is not None:
                return fault
    return DataError(f"{file}: {str(error).strip().splitlines()[0]}", hint="compare its values with the declared types")


def _line_fault(place: str, line: bytes, layout: Layout) -> DataError | None:
    try:
        found = json.loads(line.decode()) if line.strip() else {}
    except UnicodeDecodeError as fault:
        return DataError(f"{place}: not UTF-8 at byte {fault.start} of it", hint="convert it to UTF-8")
    except ValueError as fault:
        return DataError(f"{place}: not JSON: {fault}", hint="each line is one JSON object")
    if not isinstance(found, dict):
        return DataError(f"{place}: not a JSON object", hint="each line is one JSON object")
    for name, type_ in layout.columns.items():
        value = found.get(name)
        if value is not None and not _fits_json(value, type_):
            shown = repr(value)[:80]
            return DataError(
                f"{place}, column `{name}`: {shown} is not {type_}",
                hint=f"correct the file, or declare `{name}` otherwise",
            )
    return None


def json_keys(file: LocalFile, content: bytes | None) -> list[str]:
    """Give the keys of a file's objects, in the order in which they first appear."""
    with _open(file, content) as stream:
        return list(dict.fromkeys(key for line in stream if line.strip() for key in json.loads(line)))


class _Lines:
    """Decodes lines one by one, counts them, and keeps those of the row that is being read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._lines = iter(stream)
        self.number = 0
        self.row: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        text = line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        self.row.append(text)
        return text


def _open(file: LocalFile, content: bytes | None) -> BinaryIO:
    return io.BytesIO(content) if content is not None else file.path.open("rb")


def _dialect(layout: Layout) -> dict[str, Any]:
    quote = layout.params.quote
    return {
        "delimiter": layout.params.delimiter,
        "quotechar": quote or '"',
        "quoting": csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
    }


def _fits(value: str, type_: str) -> bool:
    match type_:
        case "i64":
            try:
                return -_INTEGER_LIMIT <= int(value) < _INTEGER_LIMIT
            except ValueError:
                return False
        case "f64":
            try:
                float(value)
            except ValueError:
                return False
            return "_" not in value
        case "bool":
            return value in {"true", "false"}
        case _:
            return True


def _fits_json(value: object, type_: str) -> bool:
    match type_:
        case "i64":
            return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _INTEGER_LIMIT
        case "f64":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "bool":
            return isinstance(value, bool)
        case _:
            return True
