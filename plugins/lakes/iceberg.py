"""Iceberg: a table's metadata names its snapshots; PyIceberg plans the files of one, with its deletes, and reads them.

PyIceberg's own reader rather than Polars' scan, which plans by an extension of its own or warns, and reads the same rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contracts import Pin, Reading
from engine.errors import DataError, UnavailableError

from .columns import plain, refuse_absent, resolved

if TYPE_CHECKING:
    import polars as pl


def pin_iceberg(root: Path, params: Any) -> Pin:
    """Identify the table by its own id, and the snapshot; raises `DataError` for a table that has none."""
    table = _open(root, params)
    current = table.current_snapshot() if params.snapshot is None else table.snapshot_by_id(params.snapshot)
    if current is None:
        known = ", ".join(str(item.snapshot_id) for item in table.snapshots()[-5:]) or "none: it is empty"
        wanted = "a snapshot" if params.snapshot is None else f"the snapshot {params.snapshot}"
        raise DataError(f"{params.table} does not have {wanted}", hint=f"its newest: {known}")
    identity = {"table": str(table.metadata.table_uuid), "snapshot": str(current.snapshot_id)}
    return Pin(identity, f"snapshot {current.snapshot_id}")


def read_iceberg(reading: Reading, params: Any) -> Iterator[pl.DataFrame]:
    """Yield the pinned snapshot's rows; raises `DataError` when it has expired or its files are gone."""
    import polars as pl  # noqa: PLC0415 - start-up time

    pinned: Any = reading.pin.identity
    table = _open(reading.root, params)
    snapshot = table.snapshot_by_id(int(pinned["snapshot"]))
    if str(table.metadata.table_uuid) != pinned["table"] or snapshot is None:
        hint = "choose a newer `snapshot`, or keep snapshots longer"
        raise DataError(f"{params.table} no longer has the snapshot {pinned['snapshot']}", hint=hint)
    scan = table.scan(snapshot_id=snapshot.snapshot_id)
    refuse_absent(params.table, [field.name for field in scan.projection().fields], reading.columns)
    try:
        reader = scan.select(*reading.columns).to_arrow_batch_reader()
        yield pl.DataFrame(pl.from_arrow(reader.schema.empty_table())).select(list(reading.columns))
        for batch in reader:
            yield pl.DataFrame(pl.from_arrow(batch)).select(list(reading.columns))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{params.table}, snapshot {pinned['snapshot']}: {plain(error, params.catalog)}",
            hint="is a file of it gone?",
        ) from error


def _open(root: Path, params: Any) -> Any:
    try:
        from pyiceberg import exceptions  # noqa: PLC0415 - an extra
        from pyiceberg.catalog import load_catalog  # noqa: PLC0415
        from pyiceberg.table import StaticTable  # noqa: PLC0415
    except ImportError as error:
        hint = "pip install 'plumbline[iceberg]'"
        raise UnavailableError("reading Iceberg needs the library pyiceberg", hint=hint) from error
    try:
        if params.catalog:
            properties = {"name": "default", **resolved(params.catalog)}
            return load_catalog(properties.pop("name"), **properties).load_table(params.table)
        return StaticTable.from_metadata(_metadata(root, params.table))
    except (exceptions.NoSuchTableError, exceptions.NoSuchNamespaceError, FileNotFoundError) as error:
        raise DataError(f"there is no Iceberg table {params.table}", hint="correct `table` or `catalog`") from error
    except exceptions.ValidationError as error:
        raise DataError(f"{params.table}: its metadata cannot be read", hint="is the file whole?") from error
    except (exceptions.UnauthorizedError, exceptions.ForbiddenError) as error:
        hint = "give access: catalog: {token: '${secret:NAME}'}"
        raise UnavailableError(f"{params.table}: the catalogue refuses access", hint=hint) from error
    except (exceptions.RESTError, exceptions.NotInstalledError, OSError, ValueError) as error:
        words = plain(error, params.catalog)
        raise UnavailableError(f"{params.table}: {words}", hint="is the catalogue up, and `catalog` right?") from error


def _metadata(root: Path, table: str) -> str:
    """Find the newest metadata file of a table's folder; a URL names the file itself."""
    if "://" in table:
        return table
    path = root / table
    if path.is_dir():
        found = sorted((path / "metadata").glob("*.metadata.json"), key=_sequence)
        if not found:
            raise FileNotFoundError(table)
        path = found[-1]
    return path.as_uri()


def _sequence(path: Path) -> int:
    """The number in `00002-9a….metadata.json` or `v2.metadata.json`."""
    found = re.match(r"v?(\d+)", path.name)
    return int(found[1]) if found else -1
