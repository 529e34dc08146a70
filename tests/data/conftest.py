"""A repository with a few commits, made by hand: what `engine data` looks at."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from engine.data.repository import Repository
from engine.keys import canonical_json
from engine.nodes.audited import AuditRecord, PartitionRecord, audit_path, describe_source
from engine.nodes.validation import ValidationReport
from engine.stores.snapshots import open_snapshots

Commit = Callable[..., str]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: the store fsyncs a lot."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="plumbline-", dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@pytest.fixture
def repository(folder: Path) -> Repository:
    store = open_snapshots(str(folder / "snapshots"))
    store.ensure_repository("data")
    return Repository(store, "data")


@pytest.fixture
def commit(repository: Repository, folder: Path) -> Commit:
    """Commit frames as partitions of a source, with an audit that names the key; gives the commit."""

    def save(source: str, frames: dict[str, pl.DataFrame], key: tuple[str, ...] = (), **metadata: str) -> str:
        store, file = repository.store, folder / "file"
        for item in store.list("data", "main", f"{source}/"):
            if item.path.removeprefix(f"{source}/").removesuffix(".parquet") not in frames:
                store.remove("data", "main", item.path)
        objects = []
        for label, frame in frames.items():
            frame.write_parquet(file)
            objects.append(store.put("data", "main", f"{source}/{label}.parquet", file))
        partitions = {label: PartitionRecord(frame.height) for label, frame in frames.items()}
        report = ValidationReport(source=source, rows=sum(frame.height for frame in frames.values()), findings=())
        described: dict[str, Any] = describe_source(source, sorted(objects, key=lambda item: item.path), partitions, {})
        record = AuditRecord(
            identity="", declaration="", described=described, partitions=partitions, report=report, key=key
        )
        file.write_bytes(canonical_json(msgspec.to_builtins(record)))
        store.put("data", "main", audit_path(source), file)
        return store.commit("data", "main", f"save {source}", {"plumbline.source": source, **metadata}).id

    return save
