"""Delta Lake: a table's log says which files a version consists of; Polars scans those."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contracts import Pin, Reading
from engine.errors import DataError, UnavailableError

from .columns import plain, refuse_absent, resolved

if TYPE_CHECKING:
    import polars as pl

_BATCH_ROWS = 1_000_000


def pin_delta(root: Path, params: Any) -> Pin:
    """Identify the table by its own id, and the version."""
    table = _open(root, params, params.version)
    return Pin({"table": str(table.metadata().id), "version": table.version()}, f"version {table.version()}")


def read_delta(reading: Reading, params: Any) -> Iterator[pl.DataFrame]:
    """Yield the pinned version's rows; raises `DataError` when its files have been vacuumed."""
    import polars as pl  # noqa: PLC0415 - start-up time

    pinned: Any = reading.pin.identity
    table = _open(reading.root, params, pinned["version"])
    if str(table.metadata().id) != pinned["table"]:
        raise DataError(f"{params.path} is another table than the one that was pinned", hint="run again")
    rows = pl.scan_delta(table)
    refuse_absent(params.path, rows.collect_schema(), reading.columns)
    try:
        chosen = rows.select(list(reading.columns))
        yield from chosen.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True)
    except FileNotFoundError as error:
        hint = "the files are needed as long as the version is: choose a newer `version`, or vacuum less"
        raise DataError(
            f"{params.path}: a file of version {pinned['version']} is gone; was it vacuumed?", hint=hint
        ) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{params.path}, version {pinned['version']}: {plain(error, params.storage)}", hint="is the table whole?"
        ) from error


def _open(root: Path, params: Any, version: int | None) -> Any:
    try:
        import deltalake  # noqa: PLC0415 - an extra
    except ImportError as error:
        hint = "pip install 'plumbline[delta]'"
        raise UnavailableError("reading Delta Lake needs the library deltalake", hint=hint) from error
    address = params.path if "://" in params.path else str(root / params.path)
    try:
        return deltalake.DeltaTable(address, version=version, storage_options=resolved(params.storage) or None)
    except deltalake.exceptions.TableNotFoundError as error:
        raise DataError(f"there is no Delta table at {params.path}", hint="correct `path`") from error
    except (deltalake.exceptions.DeltaError, OSError, ValueError) as error:
        words = plain(error, params.storage)
        if version is not None and "version" in words.lower():
            raise DataError(f"{params.path} has no version {version}: {words}", hint="correct `version`") from error
        raise UnavailableError(f"{params.path}: {words}", hint="is the store up, and `storage` right?") from error
