"""Files as sources: `csv`, `parquet`, `ndjson` at local paths and globs, and `package` for data inside a Python package.

Read by the `ingest` node. Planning only asks for `pin`, which hashes and imports no data library; `reading` and `faults` are
imported where rows are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.components import Component, Params
from engine.contracts import Pin

if TYPE_CHECKING:
    import polars as pl

Format = Literal["csv", "parquet", "ndjson"]


class PathParams(Params, frozen=True, kw_only=True):
    """`path` is a file or a glob, or a list of them, from the project's root; files are read in the order of their names."""

    path: str | tuple[str, ...]

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
        for name, value in (("delimiter", self.delimiter), ("quote", self.quote)):
            if value is not None and len(value.encode()) != 1:
                raise ValueError(f"`{name}` is one ASCII character, as in `;`")


class PackageParams(CsvParams, frozen=True, kw_only=True):
    """A data file inside an installed Python distribution; the package is located, never imported."""

    package: str


@dataclass(frozen=True)
class FileSource:
    """Fulfils `engine.contracts.Source` for files of one format; `None` takes it from the file's name."""

    params: PathParams
    format: Format | None

    def pin(self, root: Path) -> Pin:
        """Identify the files by name, size and digest; raises `DataError` when there is none."""
        from .locate import find_files, pin_files  # noqa: PLC0415 - start-up time

        return pin_files(root, find_files(root, self._base(root), self.params.patterns))

    def read(self, root: Path, pin: Pin, columns: Mapping[str, str]) -> Iterator[pl.DataFrame]:
        """Yield the files' rows; raises `DataError` for what cannot be read, naming file, row and column."""
        from .locate import find_files, refuse_changed  # noqa: PLC0415
        from .reading import Layout, read_file  # noqa: PLC0415 - imports polars

        files = find_files(root, self._base(root), self.params.patterns)
        for file in files:
            refuse_changed(root, files, pin)
            yield from read_file(file, Layout(self.params, self.format, dict(columns)))

    def _base(self, root: Path) -> Path:
        from .locate import locate_package  # noqa: PLC0415

        return locate_package(self.params.package) if isinstance(self.params, PackageParams) else root


def components() -> tuple[Component, ...]:
    """The kinds of sources that read files."""
    return (
        Component("source", "csv", CsvParams, lambda params: FileSource(params, "csv"), ("polars",), "CSV files"),
        Component(
            "source", "parquet", PathParams, lambda params: FileSource(params, "parquet"), ("polars",), "Parquet files"
        ),
        Component(
            "source", "ndjson", PathParams, lambda params: FileSource(params, "ndjson"), ("polars",), "JSON lines"
        ),
        Component(
            "source", "package", PackageParams, lambda params: FileSource(params, None), ("polars",), "A package's data"
        ),
    )


__all__ = ["CsvParams", "FileSource", "PackageParams", "PathParams", "components"]
