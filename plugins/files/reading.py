"""Reading files into frames: natively typed where that is certain, as text where the ingest node casts more carefully.

Enters: one file and its layout. Leaves: frames with the declared columns. What a reader refuses is looked at again by
`faults`, slowly, to say which row and column it was.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from engine.errors import DataError

from .faults import check_header, explain_csv, nearest

_TYPES: Mapping[str, Any] = {
    "bool": pl.Boolean, "i64": pl.Int64, "f64": pl.Float64, "str": pl.String, "timestamp": pl.String,
}  # fmt: skip
_BATCH_ROWS = 1_000_000
_LARGE_BYTES = 256 << 20
_BOMB_RATIO, _BOMB_BYTES = 200, 1 << 30
_PACKED = {".gz", ".zip"}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is read: the component's parameters, its format (`None`: by suffix), and the columns to keep."""

    params: Any
    format: str | None
    columns: Mapping[str, str]


def read_file(path: Path, layout: Layout) -> Iterator[pl.DataFrame]:
    """Yield a file's rows with the declared columns; raises `DataError` naming file, row and column."""
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty: not even a header", hint="an empty source is never published")
        match layout.format or _format_of(path):
            case "csv":
                yield from _read_csv(path, layout)
            case "parquet":
                yield from _read_parquet(path, layout)
            case _:
                yield from _read_ndjson(path, layout)
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or error}", hint="check the file and its permissions"
        ) from error


def _format_of(path: Path) -> str:
    suffixes = [suffix for suffix in path.suffixes if suffix not in _PACKED]
    known = {
        ".csv": "csv",
        ".tsv": "csv",
        ".txt": "csv",
        ".parquet": "parquet",
        ".ndjson": "ndjson",
        ".jsonl": "ndjson",
    }
    for suffix in reversed(suffixes):
        if suffix in known:
            return known[suffix]
    raise DataError(f"{path.name}: cannot tell its format from its name", hint=f"known endings: {', '.join(known)}")


def _read_csv(path: Path, layout: Layout) -> Iterator[pl.DataFrame]:
    content = unpack(path) if path.suffix in _PACKED else None
    if content is None and path.stat().st_size < _LARGE_BYTES:
        content = path.read_bytes()
    if layout.params.encoding == "latin1":
        content = (content if content is not None else path.read_bytes()).decode("latin1").encode()
    check_header(path, content if content is not None else _head(path), layout)
    options: dict[str, Any] = {
        "columns": list(layout.columns),
        "schema_overrides": {name: _TYPES[type_] for name, type_ in layout.columns.items()},
        "separator": layout.params.delimiter,
        "quote_char": layout.params.quote,
        "null_values": list(layout.params.null_values),
        "infer_schema": False,
        "try_parse_dates": False,
    }
    try:
        if content is not None:
            yield pl.read_csv(content, **options).select(list(layout.columns))
        else:
            yield from _read_large_csv(path, layout, options)
    except pl.exceptions.PolarsError as error:
        raise explain_csv(path, content if content is not None else path.read_bytes(), layout, error) from error


def _read_large_csv(path: Path, layout: Layout, options: dict[str, Any]) -> Iterator[pl.DataFrame]:
    """Stream a large file in bounded batches."""
    scan = pl.scan_csv(path, **{key: value for key, value in options.items() if key != "columns"})
    yield from scan.select(list(layout.columns)).collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True)


def _read_parquet(path: Path, layout: Layout) -> Iterator[pl.DataFrame]:
    try:
        schema = pl.read_parquet_schema(path)
        _check_parquet_types(path, schema, layout)
        rows = pl.scan_parquet(path, glob=False).select(list(layout.columns))
        if path.stat().st_size < _LARGE_BYTES:
            yield rows.collect()
        else:
            yield from rows.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path} is not whole Parquet: {_first_line(error)}", hint="is it truncated? fetch it again"
        ) from error


def _check_parquet_types(path: Path, schema: Mapping[str, Any], layout: Layout) -> None:
    for name, type_ in layout.columns.items():
        if name not in schema:
            raise DataError(
                f"{path} has no column `{name}`{nearest(name, schema)}", hint=f"it has: {', '.join(schema)}"
            )
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
                f"{path}: column `{name}` is {found}, and the source declares {type_}: did its type change?",
                hint=f"correct the file, or the declared type of `{name}`",
            )


def _read_ndjson(path: Path, layout: Layout) -> Iterator[pl.DataFrame]:
    content = unpack(path) if path.suffix in _PACKED else path.read_bytes()
    schema = {name: _TYPES[type_] for name, type_ in layout.columns.items()}
    try:
        yield pl.read_ndjson(io.BytesIO(content), schema=schema).select(list(layout.columns))
    except pl.exceptions.PolarsError as error:
        raise _explain_ndjson(path, content, error) from error


def _explain_ndjson(path: Path, content: bytes, error: Exception) -> DataError:
    import json  # noqa: PLC0415 - only to find the fault

    for number, line in enumerate(content.splitlines(), 1):
        try:
            whole = not line.strip() or isinstance(json.loads(line), dict)
        except ValueError as fault:
            return DataError(f"{path}, line {number}: not JSON: {fault}", hint="each line is one JSON object")
        if not whole:
            return DataError(f"{path}, line {number}: not a JSON object", hint="each line is one JSON object")
    return DataError(f"{path}: {_first_line(error)}", hint="compare its values with the declared types")


def unpack(path: Path) -> bytes:
    """Give the text inside a `.gz` or a one-file `.zip`; raises `DataError` for broken, encrypted and exploding archives."""
    try:
        return _unzip(path) if path.suffix == ".zip" else _gunzip(path)
    except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole archive: {error}", hint="is it truncated? fetch it again") from error


def _unzip(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        members = [item for item in archive.infolist() if not item.is_dir()]
        if len(members) != 1:
            names = ", ".join(item.filename for item in members[:5]) or "nothing"
            raise DataError(
                f"{path} holds {len(members)} files ({names}); one is allowed", hint="unpack it, and use a glob"
            )
        member = members[0]
        if member.flag_bits & 1:
            raise DataError(f"{path} is encrypted", hint="decrypt it first")
        _refuse_bomb(path, member.file_size, path.stat().st_size)
        return archive.read(member)


def _gunzip(path: Path) -> bytes:
    limit = max(_BOMB_BYTES, path.stat().st_size * _BOMB_RATIO)
    with gzip.open(path) as file:
        content = file.read(limit + 1)
    _refuse_bomb(path, len(content), path.stat().st_size)
    return content


def _refuse_bomb(path: Path, expanded: int, packed: int) -> None:
    if expanded > _BOMB_BYTES and expanded > packed * _BOMB_RATIO:
        raise DataError(
            f"{path} grows from {packed:,} to at least {expanded:,} bytes, more than {_BOMB_RATIO} times: refused",
            hint="if it is what you expect, unpack it yourself",
        )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1 << 20)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
