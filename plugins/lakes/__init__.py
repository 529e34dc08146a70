"""Tables that keep their own history, as sources: `delta` by version and `iceberg` by snapshot, read as they were then."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from engine.components import Component, Params
from engine.contracts import Pin, Reading

if TYPE_CHECKING:
    import polars as pl

_SECRETIVE = re.compile(r"token|secret|passw|credential|account_key|sas", re.IGNORECASE)


def _refuse_written_out(options: dict[str, str]) -> None:
    for name, value in options.items():
        if _SECRETIVE.search(name) and "${secret:" not in value:
            raise ValueError(f"`{name}` is a secret: write it ${{secret:NAME}}, and set that environment variable")


class DeltaParams(Params, frozen=True, kw_only=True):
    """`path` is the table's folder, from the project's root, or its URL; `storage` holds the options of an object store.

    Without `version`, the newest at the time of planning.
    """

    path: str
    version: Annotated[int, msgspec.Meta(ge=0)] | None = None
    storage: dict[str, str] = {}

    def __post_init__(self) -> None:
        """Refuse secrets that are written out."""
        _refuse_written_out(self.storage)


class IcebergParams(Params, frozen=True, kw_only=True):
    """`table` is a name in the `catalog` (its properties: `name`, `type`, `uri`, …), or without one a table's folder or metadata file.

    Without `snapshot`, the current one at the time of planning.
    """

    table: str
    catalog: dict[str, str] = {}
    snapshot: int | None = None

    def __post_init__(self) -> None:
        """Refuse secrets that are written out."""
        _refuse_written_out(self.catalog)


@dataclass(frozen=True)
class DeltaSource:
    """Fulfils `engine.contracts.Source`."""

    params: DeltaParams

    def pin(self, root: Path) -> Pin:
        """Identify the table and its version."""
        from .delta import pin_delta  # noqa: PLC0415 - an extra

        return pin_delta(root, self.params)

    def read(self, reading: Reading) -> Iterator[pl.DataFrame]:
        """Yield the rows of that version."""
        from .delta import read_delta  # noqa: PLC0415 - an extra

        yield from read_delta(reading, self.params)


@dataclass(frozen=True)
class IcebergSource:
    """Fulfils `engine.contracts.Source`."""

    params: IcebergParams

    def pin(self, root: Path) -> Pin:
        """Identify the table and its snapshot."""
        from .iceberg import pin_iceberg  # noqa: PLC0415 - an extra

        return pin_iceberg(root, self.params)

    def read(self, reading: Reading) -> Iterator[pl.DataFrame]:
        """Yield the rows of that snapshot."""
        from .iceberg import read_iceberg  # noqa: PLC0415 - an extra

        yield from read_iceberg(reading, self.params)


def components() -> tuple[Component, ...]:
    """The kinds of sources with versions of their own."""
    return (
        Component("source", "delta", DeltaParams, DeltaSource, ("polars", "deltalake"), "A version of a Delta table"),
        Component(
            "source", "iceberg", IcebergParams, IcebergSource, ("polars", "pyiceberg"), "A snapshot of an Iceberg table"
        ),
    )


__all__ = ["DeltaParams", "DeltaSource", "IcebergParams", "IcebergSource", "components"]
