"""Files as sources: `csv`, `ndjson`, `parquet`, `arrow` and `excel`, here or behind URLs, and `package` for a package's data.

Read by the `ingest` node. Planning only asks for `pin`, which imports no data library; everything else is imported where
it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from engine.components import Component, Params
from engine.contracts import Pin, Reading
from engine.keys import Json

if TYPE_CHECKING:
    import polars as pl

Format = Literal["csv", "parquet", "ndjson", "arrow", "excel"]


_LOGIN = re.compile(r"^[a-z]+://[^/@]*:[^/@]+@", re.IGNORECASE)
_SIGNED = re.compile(r"[?&](sig|x-amz-signature|x-goog-signature|[a-z_-]*(token|key|password|secret))=", re.IGNORECASE)
_SECRETIVE = re.compile(r"authorization|cookie|token|secret|passw|api.?key|account_key|sas", re.IGNORECASE)


class PathParams(Params, frozen=True, kw_only=True):
    """`path` is a file, a glob or a URL, or a list of them, from the project's root; files are read by their names' order.

    URLs are https, http, s3, gs and az. With `hive`, folders named `column=value` give every row of their files that
    column. `headers` go to web servers; `storage` holds an object store's options (`endpoint`, `region`, keys).
    """

    path: str | tuple[str, ...]
    hive: bool = False
    headers: dict[str, str] = {}
    storage: dict[str, str] = {}

    def __post_init__(self) -> None:
        """Refuse secrets that are written out."""
        for url in self.patterns:
            if "${secret:" not in url and (_LOGIN.search(url) or _SIGNED.search(url)):
                raise ValueError("a password or a signature in a URL is written ${secret:NAME}")
        for name, value in (*self.headers.items(), *self.storage.items()):
            if _SECRETIVE.search(name) and "${secret:" not in value:
                raise ValueError(f"`{name}` is a secret: write it ${{secret:NAME}}, and set that environment variable")

    @property
    def patterns(self) -> tuple[str, ...]:
        """The paths as a tuple."""
        return (self.path,) if isinstance(self.path, str) else self.path


class CsvParams(PathParams, frozen=True, kw_only=True):
    """Text with a header; may be gzipped (`.gz`) or the one file in a `.zip`. `null_values` stand for nothing."""

    delimiter: str = ","
    quote: str | None = '"'
    null_values: tuple[str, ...] = ("",)
    encoding: Literal["utf8", "latin1"] = "utf8"

    def __post_init__(self) -> None:
        """Refuse what a CSV reader cannot use."""
        PathParams.__post_init__(self)
        for name, value in (("delimiter", self.delimiter), ("quote", self.quote)):
            if value is not None and len(value.encode()) != 1:
                raise ValueError(f"`{name}` is one ASCII character, as in `;`")


class ExcelParams(PathParams, frozen=True, kw_only=True):
    """One sheet of a spreadsheet, by name or by number from 0; `header_row` counts from 1, as spreadsheets do."""

    sheet: str | int = 0
    header_row: Annotated[int, msgspec.Meta(ge=1)] = 1


class PackageParams(CsvParams, frozen=True, kw_only=True):
    """A data file inside an installed Python distribution; the package is located, never imported."""

    package: str


class DvcParams(CsvParams, frozen=True, kw_only=True):
    """A file, or a folder's files, that DVC tracks, as of the git revision `rev`; `repo` is the checkout.

    The bytes come from DVC's cache, or from its default remote with `headers` or `storage`.
    """

    path: str
    rev: str = "HEAD"
    repo: str = "."


@dataclass(frozen=True)
class FileSource:
    """Fulfils `engine.contracts.Source` for files of one format; `None` takes it from the file's name."""

    params: PathParams
    format: Format | None

    def pin(self, root: Path) -> Pin:
        """Identify the files by name, size and digest; raises `DataError` when there is none."""
        from .source import pin_source  # noqa: PLC0415 - start-up time

        return pin_source(root, self.params)

    def parts(self, pin: Pin) -> Mapping[str, Json]:
        """Give each file's identity by its name, in the order of reading."""
        identity: Any = pin.identity
        return {item["name"]: item for item in identity["files"]}

    def read(self, reading: Reading) -> Iterator[pl.DataFrame]:
        """Yield the files' rows; raises `DataError` for what cannot be read, naming file, row and column."""
        yield from (frame for _, frame in self.read_parts(reading, self.parts(reading.pin)))

    def read_parts(self, reading: Reading, wanted: Collection[str]) -> Iterator[tuple[str, pl.DataFrame]]:
        """Yield the rows of some files, each frame with its file's name."""
        from .source import read_source  # noqa: PLC0415 - start-up time

        files = {name: item for name, item in self.parts(reading.pin).items() if name in wanted}
        yield from read_source(reading, files, self.params, self.format)


def _component(name: str, params: type[Params], format_: Format | None, doc: str) -> Component:
    return Component("source", name, params, lambda params: FileSource(params, format_), ("polars",), doc)


def components() -> tuple[Component, ...]:
    """The kinds of sources that read files."""
    return (
        _component("csv", CsvParams, "csv", "CSV files"),
        _component("parquet", PathParams, "parquet", "Parquet files"),
        _component("ndjson", PathParams, "ndjson", "JSON lines"),
        _component("arrow", PathParams, "arrow", "Arrow IPC and Feather files"),
        _component("excel", ExcelParams, "excel", "Excel and OpenDocument sheets"),
        _component("package", PackageParams, None, "A package's data"),
        _component("dvc", DvcParams, None, "Files that DVC tracks"),
    )


__all__ = ["CsvParams", "DvcParams", "ExcelParams", "FileSource", "PackageParams", "PathParams", "components"]
