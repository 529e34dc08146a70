"""From parameters to a pin, and from a pin to rows: what the kinds of files share.

Called by the components of this plugin. A reading never looks for files again: it opens those that were pinned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contracts import Pin, Reading
from engine.errors import DataError

from .items import Layout, LocalFile, folder_values
from .locate import FetchedFile, PinnedFile, find_files, locate_package, pin_files
from .remote import scheme_of

if TYPE_CHECKING:
    import polars as pl


def pin_source(root: Path, params: Any) -> Pin:
    """Find and identify the files; raises `DataError` when there is none."""
    if hasattr(params, "rev"):
        from .dvc import pin_tracked  # noqa: PLC0415 - start-up time

        return pin_tracked(root, params)
    base = _base(root, params)
    local = [pattern for pattern in params.patterns if scheme_of(pattern) is None]
    files: list[Any] = pin_files(root, base, find_files(root, base, local))
    for url in params.patterns:
        if scheme_of(url) is not None:
            from .download import pin_objects  # noqa: PLC0415 - start-up time

            files += pin_objects(root, url, params)
    files = list({item["name"]: item for item in files}.values())
    total = sum(item["size"] or 0 for item in files)
    return Pin({"files": files}, f"{len(files)} file(s), {total:,} bytes")


def read_source(
    reading: Reading, files: Mapping[str, Any], params: Any, format_: str | None
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the rows of pinned files, each frame with its file's name; raises `DataError` naming file, row and column."""
    import polars as pl  # noqa: PLC0415 - start-up time

    from .reading import read_file  # noqa: PLC0415 - imports polars

    base = _base(reading.root, params)
    seen = _Seen(reading.columns)
    sizes = {name: item["size"] or 0 for name, item in files.items()}
    total, done = max(sum(sizes.values()), 1), 0
    for name, item in files.items():
        pinned = _opened(reading, base, item, params)
        values = folder_values(name) if params.hive else {}
        columns = {column: type_ for column, type_ in reading.columns.items() if column not in values}
        if not columns:
            raise DataError(f"{pinned.file}: every declared column is a folder's", hint="declare one of the files'")
        pinned.begin()
        for frame in read_file(pinned.file, Layout(params, format_, columns)):
            constant = (pl.lit(value, pl.String).alias(key) for key, value in values.items())
            whole = frame.with_columns(constant).select(list(reading.columns)) if values else frame
            seen.note(pinned.file, whole)
            yield name, whole
        pinned.end()
        done += sizes[name]
        reading.progress(f"reading {pinned.file.path.name}", None, done / total)
    if format_ == "ndjson":
        seen.refuse_absent()


def _opened(reading: Reading, base: Path, pinned: Mapping[str, Any], params: Any) -> PinnedFile | FetchedFile:
    if "md5" in pinned:
        from .dvc import fetch_tracked  # noqa: PLC0415 - start-up time

        return FetchedFile(fetch_tracked(reading, pinned, params))
    if scheme_of(str(pinned["name"])) is None:
        return PinnedFile(reading.root, base, pinned)
    from .download import fetch  # noqa: PLC0415 - start-up time

    return FetchedFile(fetch(reading.root, pinned, params, reading.progress))


class _Seen:
    """Which columns had a value: JSON lines have no header that would tell of a column that is in none of them."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._unseen = dict.fromkeys(columns)
        self._files: dict[LocalFile, None] = {}

    def note(self, file: LocalFile, frame: pl.DataFrame) -> None:
        """Look at a frame's columns."""
        for name in [name for name in self._unseen if frame[name].null_count() < frame.height]:
            del self._unseen[name]
        if frame.height:
            self._files[file] = None

    def refuse_absent(self) -> None:
        """Raise `DataError` for a column whose name is a key in no line of any file."""
        from .faults import absent, json_keys  # noqa: PLC0415
        from .text import read_small  # noqa: PLC0415

        if not self._unseen or not self._files:
            return
        keys = dict.fromkeys(key for file in self._files for key in json_keys(file, read_small(file)))
        for name in self._unseen:
            if name not in keys:
                raise absent(next(iter(self._files)), name, keys)


def _base(root: Path, params: Any) -> Path:
    package = getattr(params, "package", None)
    return root if package is None else locate_package(package)
