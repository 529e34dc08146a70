"""Reading a file into frames with the declared columns: which reader, and the typed formats (Parquet, Arrow).

Enters: a file and its layout. Leaves: frames whose column types depend on the declaration alone, as far as nothing is
lost by it: files of one source may differ in the width of their integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from engine.errors import DataError

from .faults import absent
from .items import Layout, LocalFile
from .text import read_csv, read_ndjson
from .unpacking import PACKED, is_packed

_BATCH_ROWS = 1_000_000
_LARGE_BYTES = 256 << 20
_ARROW_MAGIC = b"ARROW1"
_BY_SUFFIX = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet", ".ndjson": "ndjson", ".jsonl": "ndjson",
    ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow", ".arrows": "arrow",
}  # fmt: skip


def read_file(file: LocalFile, layout: Layout) -> Iterator[pl.DataFrame]:
    """Yield a file's rows with the declared columns; raises `DataError` naming file, row and column."""
    try:
        if file.path.stat().st_size == 0:
            raise DataError(f"{file} is empty: not even a header", hint="an empty source is never published")
        match layout.format or format_of(file):
            case "csv":
                yield from read_csv(file, layout)
            case "ndjson":
                yield from read_ndjson(file, layout)
            case "arrow":
                yield from _read_arrow(file, layout)
            case "excel":
                from .excel import read_excel  # noqa: PLC0415 - an extra

                yield from read_excel(file, layout)
            case _:
                yield from _read_parquet(file, layout)
    except OSError as error:
        raise DataError(
            f"cannot read {file}: {error.strerror or error}", hint="check the file and its permissions"
        ) from error


def format_of(file: LocalFile) -> str:
    """Tell a file's format from its name; raises `DataError`."""
    for suffix in reversed([suffix.lower() for suffix in file.path.suffixes]):
        if suffix in _BY_SUFFIX:
            return _BY_SUFFIX[suffix]
        if suffix not in PACKED:
            break
    known = ", ".join(_BY_SUFFIX)
    raise DataError(f"{file.path.name}: cannot tell its format from its name", hint=f"known endings: {known}")


def _read_parquet(file: LocalFile, layout: Layout) -> Iterator[pl.DataFrame]:
    try:
        rows = pl.scan_parquet(file.path, glob=False)
        yield from _read_typed(rows, rows.collect_schema(), file, layout)
    except pl.exceptions.PolarsError as error:
        raise _broken(file, "Parquet", error) from error


def _read_arrow(file: LocalFile, layout: Layout) -> Iterator[pl.DataFrame]:
    """Read the file format (Feather version 2) or the stream format."""
    with file.path.open("rb") as stream:
        is_file = stream.read(len(_ARROW_MAGIC)) == _ARROW_MAGIC
    try:
        rows = pl.scan_ipc(file.path, glob=False) if is_file else pl.read_ipc_stream(file.path).lazy()
        yield from _read_typed(rows, rows.collect_schema(), file, layout)
    except pl.exceptions.PolarsError as error:
        raise _broken(file, "Arrow", error) from error


def _read_typed(
    rows: pl.LazyFrame, schema: Mapping[str, Any], file: LocalFile, layout: Layout
) -> Iterator[pl.DataFrame]:
    check_types(file, schema, layout)
    chosen = rows.select(_alike(name, schema[name], type_) for name, type_ in layout.columns.items())
    if is_packed(file) or file.path.stat().st_size < _LARGE_BYTES:
        yield chosen.collect()
    else:
        yield from chosen.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True)


def check_types(file: LocalFile, schema: Mapping[str, Any], layout: Layout) -> None:
    """Refuse a typed file that lacks a declared column, or has it in a type that cannot be read as declared."""
    for name, type_ in layout.columns.items():
        if name not in schema:
            raise absent(file, name, schema)
        found = schema[name]
        fits = {
            "bool": found == pl.Boolean,
            "i64": found.is_integer(),
            "f64": found.is_numeric(),
            "str": found in (pl.String, pl.Categorical, pl.Enum),
            "timestamp": found.is_temporal() or found == pl.String,
        }
        if not fits[type_] and found != pl.Null:
            raise DataError(
                f"{file}: column `{name}` is {found}, and the source declares {type_}: did its type change?",
                hint=f"correct the file, or the declared type of `{name}`",
            )


def _alike(name: str, found: Any, type_: str) -> pl.Expr:
    """Give a column in one type for all files, where that loses nothing; what may not fit is left to the ingest node."""
    column = pl.col(name)
    match type_:
        case "i64" if found not in (pl.UInt64, pl.Int128, pl.UInt128):
            return column.cast(pl.Int64)
        case "f64":
            return column.cast(pl.Float64)
        case "str":
            return column.cast(pl.String)
        case "bool" if found == pl.Null:
            return column.cast(pl.Boolean)
        case "timestamp" if isinstance(found, pl.Datetime) and found.time_zone is None:
            return column.dt.replace_time_zone("UTC")
        case "timestamp" if isinstance(found, pl.Datetime):
            return column.dt.convert_time_zone("UTC")
        case _:
            return column


def _broken(file: LocalFile, kind: str, error: Exception) -> DataError:
    words = str(error).strip().splitlines()
    return DataError(
        f"{file} is not whole {kind}: {words[0] if words else type(error).__name__}",
        hint="is it truncated? fetch it again",
    )
