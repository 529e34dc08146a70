"""What is wrong with a file, in words: the header, or the first cell that is not what was declared.

Called before reading (header) and after a reader's refusal; slow and exact, since it runs once and ends the ingest.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import DataError

if TYPE_CHECKING:
    from .reading import Layout

_INTEGER_LIMIT = 2**63


def nearest(name: str, names: Iterable[str]) -> str:
    """Suggest the nearest of some names."""
    near = get_close_matches(name, list(names), 1)
    return f" (did you mean `{near[0]}`?)" if near else ""


def check_header(path: Path, content: bytes, layout: Layout) -> None:
    """Refuse a header that lacks a declared column, or has one twice."""
    line = content.split(b"\n", 1)[0].removeprefix(b"\xef\xbb\xbf").rstrip(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line 1: not UTF-8 at byte {error.start}", hint="say `encoding: latin1`, or convert it"
        ) from error
    quote = layout.params.quote
    reader = csv.reader(
        [text],
        delimiter=layout.params.delimiter,
        quotechar=quote or '"',
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
    )
    header = next(reader, [])
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path}: the header has {', '.join(twice)} twice", hint="give every column a name of its own")
    for name in layout.columns:
        if name not in header:
            shown = ", ".join(header[:40])
            raise DataError(f"{path} has no column `{name}`{nearest(name, header)}", hint=f"its header is: {shown}")


def explain_csv(path: Path, content: bytes, layout: Layout, error: Exception) -> DataError:
    """Find the first row that is broken, or the first cell that is not of its declared type."""
    try:
        text = content.decode()
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        return DataError(
            f"{path}, line {line}: not UTF-8 at byte {fault.start}", hint="say `encoding: latin1`, or convert it"
        )
    reader = csv.reader(io.StringIO(text), delimiter=layout.params.delimiter, quotechar=layout.params.quote or '"')
    header = next(reader)
    for number, row in enumerate(reader, 1):
        if len(row) != len(header) and row:
            return DataError(
                f"{path}, data row {number} (line {reader.line_num}): {len(row)} fields, and the header has {len(header)}",
                hint="is a field with a delimiter unquoted?",
            )
        for name, value in zip(header, row, strict=False):
            type_ = layout.columns.get(name)
            if type_ is not None and value not in layout.params.null_values and not _fits(value, type_):
                return DataError(
                    f"{path}, data row {number}, column `{name}`: {value[:80]!r} is not {type_}",
                    hint=f"correct the file, declare `{name}` otherwise, or list it under `null_values`",
                )
    return DataError(
        f"{path} cannot be read: {str(error).strip().splitlines()[0]}", hint="check delimiter, quotes and encoding"
    )


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
