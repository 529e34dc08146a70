"""Excel and OpenDocument sheets into frames, by calamine. A cell that is not of its declared type is refused, not guessed.

The reader itself turns text in a column of numbers into nothing and cuts fractions off integers. So numbers are read as
doubles, as spreadsheets keep them, and each null is compared with the cell's text.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import Any

import polars as pl

from engine.errors import DataError, UnavailableError

from .faults import absent
from .items import Layout, LocalFile

_READ_AS = {"i64": "float", "f64": "float", "bool": "boolean", "str": "string", "timestamp": "string"}
_BOMB_RATIO, _BOMB_BYTES = 200, 1 << 30


def read_excel(file: LocalFile, layout: Layout) -> Iterator[pl.DataFrame]:
    """Yield a sheet's rows with the declared columns; raises `DataError` naming row and column."""
    try:
        import fastexcel  # noqa: PLC0415 - an extra
    except ImportError as error:
        hint = "pip install 'plumbline[excel]'"
        raise UnavailableError(f"{file}: reading Excel needs the library fastexcel", hint=hint) from error
    _refuse_bomb(file)
    params = layout.params
    try:
        book = fastexcel.read_excel(file.path)
        options = {"header_row": params.header_row - 1, "schema_sample_rows": 1}
        names = [column.name for column in book.load_sheet(params.sheet, n_rows=0, **options).available_columns()]
        for name in layout.columns:
            if name not in names:
                raise absent(file, name, names)
        kept = list(layout.columns)
        text = book.load_sheet(params.sheet, use_columns=kept, dtypes="string", **options).to_polars()
        types: Any = {name: _READ_AS[type_] for name, type_ in layout.columns.items()}
        rows = book.load_sheet(params.sheet, use_columns=kept, dtypes=types, **options).to_polars()
    except fastexcel.FastExcelError as error:
        words = " ".join(str(error).split())[:200]
        raise DataError(f"{file}: {words}", hint="check the file, and `sheet`") from error
    _refuse_lost(file, text.select(kept), rows.select(kept), layout)
    yield rows.select(kept)


def _refuse_lost(file: LocalFile, text: pl.DataFrame, rows: pl.DataFrame, layout: Layout) -> None:
    """Raise `DataError` for the first cell that has text, and no value of its declared type."""
    for name, type_ in layout.columns.items():
        lost = (rows[name].is_null() & text[name].is_not_null()).arg_true()
        whole = rows[name] == rows[name].round() if type_ == "i64" else None
        if whole is not None:
            lost = pl.concat([lost, (~whole).arg_true()]).sort()
        if len(lost):
            at = lost[0]
            raise DataError(
                f"{file}, row {at + layout.params.header_row + 1}, column `{name}`: {str(text[name][at])[:80]!r} is not {type_}",
                hint=f"correct the cell, or declare `{name}` otherwise",
            )


def _refuse_bomb(file: LocalFile) -> None:
    """An .xlsx or .ods is a zip; look at what it says of its size before it is unpacked."""
    if not zipfile.is_zipfile(file.path):
        return
    with zipfile.ZipFile(file.path) as archive:
        expanded = sum(item.file_size for item in archive.infolist())
    packed = file.path.stat().st_size
    if expanded > _BOMB_BYTES and expanded > packed * _BOMB_RATIO:
        raise DataError(f"{file} grows from {packed:,} to {expanded:,} bytes: refused", hint="save it anew")
