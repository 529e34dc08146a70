"""A source on its way into a store, without a run around it: declare, ingest, look."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.components import load_catalogue
from engine.contracts import Artefact, Commit, Pin, Place, SnapshotStore, Work
from engine.features.source_compiler import compile_source
from engine.nodes.ingest import checkout, ingest
from engine.spec import SourceSpec, identity, rebuild
from engine.stores.snapshots import open_snapshots

PLUGINS = ("files",)
REPO = "data"


@dataclass(frozen=True)
class Ingested:
    """What one ingestion left."""

    notes: dict[str, Any]
    source: dict[str, Any]
    validation: dict[str, Any]

    @property
    def failed(self) -> dict[str, dict[str, Any]]:
        """The findings that failed, by rule."""
        return {item["rule"]: item for item in self.validation["findings"] if item["status"] == "fail"}


@dataclass
class Bench:
    """A project's folder with one snapshot store, and sources declared as in YAML."""

    root: Path
    declared: dict[str, dict[str, Any]] = field(default_factory=dict)
    count: int = 0

    @property
    def store(self) -> SnapshotStore:
        return open_snapshots(str(self.root / "snapshots"))

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def declare(self, name: str, **said: Any) -> None:
        """Declare a CSV source; a second time changes what is said."""
        self.declared[name] = {"kind": "csv", "path": f"{name}*.csv", **self.declared.get(name, {}), **said}

    def spec(self, name: str) -> SourceSpec:
        said = dict(self.declared[name])
        component = load_catalogue(self.root, PLUGINS).get("source", said.pop("kind"))
        known = {item.name for item in msgspec.structs.fields(SourceSpec)}
        params = msgspec.convert({key: said.pop(key) for key in list(said) if key not in known}, component.params)
        return rebuild(SourceSpec, {"kind": self.declared[name]["kind"], **said}, params)

    def pin(self, name: str) -> Pin:
        spec = self.spec(name)
        if spec.ref is not None:
            return Pin({"commit": self.store.resolve(spec.repository, spec.ref)}, "")
        return load_catalogue(self.root, PLUGINS).get("source", spec.kind).build(spec.params).pin(self.root)

    def work(self, name: str, references: dict[str, Artefact] | None = None) -> Work:
        spec, self.count = self.spec(name), self.count + 1
        out = self.root / "out" / f"{os.getpid()}-{self.count}"
        out.mkdir(parents=True)
        return Work(
            node=f"ingest.{name}",
            settings={
                "source": name,
                "spec": identity(spec),
                "program": compile_source(name, spec).to_json(),
                "pin": self.pin(name).identity,
            },
            inputs={f"reference.{other}": artefact for other, artefact in (references or {}).items()},
            out=out,
            place=Place(self.root, str(self.root / "snapshots"), str(self.root), PLUGINS, 1, str(self.count)),
            progress=lambda message, rows, done: None,
        )

    def ingest(self, name: str, references: dict[str, Artefact] | None = None) -> Ingested:
        work = self.work(name, references)
        body = ingest if self.spec(name).ref is None else checkout
        notes = dict(body(work))
        found = [json.loads((work.out / file).read_bytes()) for file in ("source.json", "validation.json")]
        assert list(work.out.parent.glob(f"{work.out.name}.*")) == []  # scratch space is cleared
        return Ingested(notes, *found)

    def artefact(self, name: str) -> Artefact:
        """Ingest, and give what a node that refers to it gets."""
        work = self.work(name)
        return Artefact(work.out, "0" * 64, dict(ingest(work)))

    def log(self) -> list[Commit]:
        return list(self.store.log(REPO, "main", 1000))

    def objects(self, ref: str = "main", name: str = "") -> dict[str, str]:
        """Give the digests of a source's objects (of every source's without a name), not the records beside them."""
        found = self.store.list(REPO, ref, f"{name}/" if name else "")
        return {item.path: item.digest for item in found if not item.path.startswith(".plumbline/")}


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A fresh bench, in memory where there is one: the store fsyncs a lot."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="plumbline-", dir=memory if os.access(memory, os.W_OK) else None))
    yield Bench(folder)
    shutil.rmtree(folder)
