"""CSV and NDJSON into frames: natively typed where that is certain, as text where the ingest node casts more carefully.

Small files are read whole, large ones in batches. What the reader refuses, or fills up without a word (a row that is too
short), is looked at again by `faults`, slowly, to say which row and column it was.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from engine.errors import DataError

from .faults import explain_csv, explain_ndjson, find_csv_fault, read_header
from .items import Layout, LocalFile
from .unpacking import is_packed, unpack

_TYPES: Mapping[str, Any] = {
    "bool": pl.Boolean, "i64": pl.Int64, "f64": pl.Float64, "str": pl.String, "timestamp": pl.String,
}  # fmt: skip
_BATCH_ROWS = 1_000_000
_LARGE_BYTES = 256 << 20
_HEAD_BYTES = 1 << 20
_MARK = b"\xef\xbb\xbf"
_NEVER = "\x01"  # a delimiter that no line is expected to have; one that has it is looked at slowly


def read_csv(file: LocalFile, layout: Layout) -> Iterator[pl.DataFrame]:
    """Yield the declared columns; raises `DataError` naming row and column."""
    content = _content(file, whole=layout.params.encoding != "utf8")
    if content is not None and layout.params.encoding == "latin1":
        content = content.decode("latin1").encode()
    header = read_header(file, content if content is not None else _head(file), layout)
    last = header[-1]
    if content is not None and len(header) > 1 and content.endswith((b"\n\n", b"\n\r\n")):
        content = content.rstrip(b"\r\n") + b"\n"
    scan = pl.scan_csv(
        io.BytesIO(content) if content is not None else file.path,
        schema_overrides={name: _TYPES[type_] for name, type_ in layout.columns.items()},
        separator=layout.params.delimiter,
        quote_char=layout.params.quote,
        null_values=list(layout.params.null_values),
        infer_schema=False,
        glob=False,
    )
    kept = list(layout.columns)
    suspect = False
    try:
        for frame in _collect(scan.select(list(dict.fromkeys((*kept, last)))), whole=content is not None):
            suspect |= frame[last].null_count() > 0  # a row that is too short has its last fields filled up
            yield frame.select(kept)
    except pl.exceptions.PolarsError as error:
        raise explain_csv(file, content, layout, error) from error
    if suspect and len(header) > 1 and not _is_even(file, content, layout, len(header)):
        fault = find_csv_fault(file, content, layout)
        if fault is not None:
            raise fault


def _is_even(file: LocalFile, content: bytes | None, layout: Layout, width: int) -> bool:
    """Say whether every line surely has as many fields as the header: quickly, on every core; when in doubt, no."""
    line = pl.col("line")
    bare = line.str.replace_all(r'"[^"]*"', "") if layout.params.quote else line
    odd = (bare.str.count_matches(layout.params.delimiter, literal=True) != width - 1) | line.is_null()
    if layout.params.quote:
        odd = odd | (line.str.count_matches(layout.params.quote, literal=True) % 2 != 0)
        if layout.params.quote != '"':
            return False
    lines = pl.scan_csv(
        io.BytesIO(content) if content is not None else file.path,
        has_header=False,
        separator=_NEVER,
        quote_char=None,
        schema={"line": pl.String},
        truncate_ragged_lines=True,
        glob=False,
    )
    return not lines.select(odd.any()).collect(engine="streaming").item()


def read_ndjson(file: LocalFile, layout: Layout) -> Iterator[pl.DataFrame]:
    """Yield the declared columns, null where a line does not have them; raises `DataError` naming line and column."""
    content = _content(file, whole=_head(file).startswith(_MARK))
    if content is not None:
        content = content.removeprefix(_MARK)
    schema = {name: _TYPES[type_] for name, type_ in layout.columns.items()}
    scan = pl.scan_ndjson(io.BytesIO(content) if content is not None else _literal(file), schema=schema)
    try:
        yield from _collect(scan.select(list(layout.columns)), whole=content is not None)
    except pl.exceptions.PolarsError as error:
        raise explain_ndjson(file, content, layout, error) from error


def read_small(file: LocalFile) -> bytes | None:
    """Give a file's text when it is packed or small enough to hold; `None` to read it from where it is."""
    content = _content(file, whole=False)
    return content.removeprefix(_MARK) if content is not None else None


def _content(file: LocalFile, *, whole: bool) -> bytes | None:
    """Give a file's text when it is packed, or small, or wanted whole; raises `DataError` when there is none."""
    content: bytes | None = None
    if is_packed(file):
        content = unpack(file)
    elif whole or file.path.stat().st_size < _LARGE_BYTES:
        content = file.path.read_bytes()
    if content is not None and not content.strip():
        raise DataError(f"{file} is empty: not even a header", hint="an empty source is never published")
    if (content if content is not None else _head(file)).startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{file} is UTF-16", hint="convert it to UTF-8, as in: iconv -f UTF-16 -t UTF-8")
    return content


def _collect(rows: pl.LazyFrame, *, whole: bool) -> Iterator[pl.DataFrame]:
    if whole:
        yield rows.collect()
    else:
        yield from rows.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True)


def _literal(file: LocalFile) -> str:
    """Write a path so that a reader which takes globs takes it for itself."""
    return re.sub(r"([*?[])", r"[\1]", str(file.path))


def _head(file: LocalFile) -> bytes:
    with file.path.open("rb") as stream:
        return stream.read(_HEAD_BYTES)
