"""Excel sheets: typed cells, and nothing lost without a word."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
import xlsxwriter

from engine.components import load_catalogue
from engine.contracts import Reading
from engine.errors import DataError

COLUMNS = {"id": "str", "n": "i64", "x": "f64", "ok": "bool", "at": "timestamp"}
ROWS = [
    ["a", 1, 0.5, True, dt.datetime(2024, 1, 2, 3, 4, 5)],  # noqa: DTZ001 - a sheet has no zones
    ["b", None, 1e300, False, None],
    [12, -3, 7, None, "2024-01-02T00:00:00Z"],
]


def write(path: Path, rows: list[list[Any]], above: int = 0) -> None:
    book = xlsxwriter.Workbook(str(path))
    book.add_worksheet("first")
    sheet = book.add_worksheet("rides")
    moment = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
    for line, row in enumerate([list(COLUMNS), *rows], above):
        for column, value in enumerate(row):
            if isinstance(value, dt.datetime):
                sheet.write_datetime(line, column, value, moment)
            elif value is not None:
                sheet.write(line, column, value)
    book.close()


def read(root: Path, columns: dict[str, str] = COLUMNS, **params: Any) -> pl.DataFrame:
    component = load_catalogue(root, ("files",)).get("source", "excel")
    source = component.build(msgspec.convert({"path": "a.xlsx", "sheet": "rides", **params}, component.params))
    return pl.concat(list(source.read(Reading(root, source.pin(root), columns))))


def test_cells_come_typed(tmp_path: Path) -> None:
    write(tmp_path / "a.xlsx", ROWS, above=2)
    assert read(tmp_path, header_row=3).rows() == [
        ("a", 1.0, 0.5, True, "2024-01-02 03:04:05"),
        ("b", None, 1e300, False, None),
        ("12", -3.0, 7.0, None, "2024-01-02T00:00:00Z"),
    ]
    assert read(tmp_path, {"x": "f64"}, header_row=3, sheet=1).rows() == [(0.5,), (1e300,), (7.0,)]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [(1, "two", "column `n`: 'two' is not i64"), (1, 2.5, "`n`: '2.5' is not i64"), (2, "?", "`x`: '?' is not f64")],
)
def test_a_cell_of_a_wrong_type_is_named(column: int, value: Any, words: str, tmp_path: Path) -> None:
    rows = [list(row) for row in ROWS]
    rows[1][column] = value
    write(tmp_path / "a.xlsx", rows)
    with pytest.raises(DataError, match="row 3, column") as caught:
        read(tmp_path)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("params", "columns", "words"),
    [({"sheet": "ride"}, COLUMNS, "rides"), ({}, {"idd": "str"}, "no column `idd` (did you mean `id`?)")],
)
def test_what_is_not_there(params: dict[str, Any], columns: dict[str, str], words: str, tmp_path: Path) -> None:
    write(tmp_path / "a.xlsx", ROWS)
    with pytest.raises(DataError) as caught:
        read(tmp_path, columns, **params)
    assert words in str(caught.value)


@pytest.mark.parametrize("damage", [slice(0, 40), slice(0, -30), slice(9, None)])
def test_a_broken_workbook(damage: slice, tmp_path: Path) -> None:
    write(tmp_path / "a.xlsx", ROWS)
    (tmp_path / "a.xlsx").write_bytes((tmp_path / "a.xlsx").read_bytes()[damage])
    with pytest.raises(DataError, match=r"a\.xlsx"):
        read(tmp_path)
