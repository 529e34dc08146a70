"""Delta and Iceberg tables: read as they were at a version, and refused in words when that is gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from engine.components import load_catalogue
from engine.contracts import Pin, Reading
from engine.errors import DataError, EngineError, UnavailableError

COLUMNS = {"id": "str", "n": "i64"}
CATALOGUE = load_catalogue(Path("/"), ("lakes",))


@dataclass
class Lake:
    """A table with two versions, and how to add to it."""

    kind: str
    root: Path
    where: dict[str, Any]
    append: Callable[[str], None]
    versions: Callable[[], list[int]]

    def source(self, **params: Any) -> Any:
        component = CATALOGUE.get("source", self.kind)
        return component.build(msgspec.convert({**self.where, **params}, component.params))

    def at(self, version: int) -> Any:
        return self.source(**{"version" if self.kind == "delta" else "snapshot": version})

    def read(self, source: Any, pin: Pin | None = None, columns: dict[str, str] = COLUMNS) -> pl.DataFrame:
        return pl.concat(list(source.read(Reading(self.root, pin or source.pin(self.root), columns))))


@pytest.fixture(params=["delta", "iceberg", "iceberg-catalogue"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A fresh table of every kind."""
    if request.param == "delta":

        def append(name: str) -> None:
            pl.DataFrame({"id": [name], "n": [1]}).write_delta(tmp_path / "rides", mode="append")

        def versions() -> list[int]:
            import deltalake

            return list(range(deltalake.DeltaTable(tmp_path / "rides").version() + 1))

        lake = Lake("delta", tmp_path, {"path": "rides"}, append, versions)
    else:
        lake = iceberg(tmp_path, catalogue=request.param == "iceberg-catalogue")
    lake.append("a")
    lake.append("b")
    return lake


def iceberg(root: Path, *, catalogue: bool) -> Lake:
    import pyarrow as pa
    from pyiceberg.catalog.sql import SqlCatalog

    properties = {
        "name": "tests",
        "type": "sql",
        "uri": f"sqlite:///{root}/catalogue.db",
        "warehouse": f"file://{root}",
    }
    catalog = SqlCatalog(**properties)
    catalog.create_namespace("lake")
    table = catalog.create_table("lake.rides", schema=pa.schema([("id", pa.string()), ("n", pa.int64())]))
    where = {"table": "lake.rides", "catalog": properties} if catalogue else {"table": "lake/rides"}
    return Lake(
        "iceberg", root, where,
        lambda name: table.append(pa.table({"id": [name], "n": [1]})),
        lambda: [item.snapshot_id for item in table.snapshots()],
    )  # fmt: skip


def test_the_newest_is_pinned_and_read(lake: Lake) -> None:
    source = lake.source()
    pin = source.pin(lake.root)
    assert lake.read(source, pin).sort("id").rows() == [("a", 1), ("b", 1)]
    assert source.pin(lake.root) == pin
    lake.append("c")
    assert source.pin(lake.root).identity != pin.identity
    assert lake.read(source, pin)["id"].sort().to_list() == ["a", "b"], "as it was pinned"
    assert lake.read(source).height == 3


def test_a_version_is_read_as_it_was(lake: Lake) -> None:
    first = lake.versions()[0]
    assert lake.read(lake.at(first)).rows() == [("a", 1)]
    lake.append("c")
    assert lake.at(first).pin(lake.root) == lake.at(first).pin(lake.root)


def test_only_declared_columns_in_their_order(lake: Lake) -> None:
    assert lake.read(lake.source(), columns={"n": "i64", "id": "str"}).columns == ["n", "id"]
    with pytest.raises(DataError, match="no column `idd` \\(did you mean `id`"):
        lake.read(lake.source(), columns={"idd": "str"})


def test_a_version_that_is_not_there(lake: Lake) -> None:
    with pytest.raises(DataError, match="99") as caught:
        lake.at(99).pin(lake.root)
    assert caught.value.hint


def test_a_file_that_is_gone(lake: Lake) -> None:
    source = lake.source()
    pin = source.pin(lake.root)
    for path in lake.root.rglob("*.parquet"):
        path.unlink()
    with pytest.raises(DataError) as caught:
        lake.read(source, pin)
    assert "gone" in str(caught.value)


def test_a_table_that_is_not_there(lake: Lake) -> None:
    name = "path" if lake.kind == "delta" else "table"
    with pytest.raises(DataError, match="there is no"):
        lake.source(**{name: "lake.none"}).pin(lake.root)


def test_another_table_in_its_place(lake: Lake) -> None:
    source = lake.source()
    pin = source.pin(lake.root)
    other = Pin({**pin.identity, "table": "another"}, "")  # type: ignore[dict-item]
    with pytest.raises(DataError):
        lake.read(source, other)


def test_a_broken_table(lake: Lake) -> None:
    if lake.kind == "delta":
        shutil.rmtree(lake.root / "rides" / "_delta_log")
        (lake.root / "rides" / "_delta_log").mkdir()
        (lake.root / "rides" / "_delta_log" / f"{0:020}.json").write_text("{")
    else:
        for path in lake.root.rglob("*.metadata.json"):
            path.write_text("{")
    with pytest.raises(EngineError) as caught:
        lake.source().pin(lake.root)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "params", "library"),
    [("delta", {"path": "x"}, "deltalake"), ("iceberg", {"table": "x"}, "pyiceberg")],
)
def test_a_missing_library_is_named_with_its_extra(
    kind: str, params: dict[str, Any], library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    source = Lake(kind, tmp_path, params, print, list).source()
    with pytest.raises(UnavailableError) as caught:
        source.pin(tmp_path)
    assert f"pip install 'plumbline[{kind}]'" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "params"),
    [("delta", {"path": "s3://b/t", "storage": {"AWS_SECRET_ACCESS_KEY": "hunter2"}}),
     ("iceberg", {"table": "a.b", "catalog": {"token": "hunter2"}})],
)  # fmt: skip
def test_a_secret_that_is_written_out_is_refused(kind: str, params: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\{secret:NAME\}"):
        Lake(kind, tmp_path, params, print, list).source()
