"""Ingest against its floors, in one process, alternating, on one disk; medians of `--repeat` rounds.

    .venv/bin/python benchmarks/ingest.py [--rows 8000000] [--repeat 5]

`throughput`: reading a Parquet file, validating it and publishing it by month, over plain Polars reading the same file, writing
it once with the same codec and one SHA-256 pass over what it wrote. `again`: ingesting the very same file once more, with
nothing remembered of its digest, over reading it and hashing it. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.components import load_catalogue
from engine.contracts import Place, Work
from engine.features.source_compiler import compile_source
from engine.nodes.ingest import ingest
from engine.spec import SourceSpec, identity
from engine.stores.snapshots import open_snapshots

COLUMNS = {"id": "i64", "who": "str", "at": "timestamp", "x": "f64", "y": "f64", "z": "f64", "n": "i64", "word": "str"}
EXPECT = [
    {"column": "id", "not_null": True},
    {"column": "x", "minimum": -100, "maximum": 100},
    {"column": "word", "values": ["red", "green", "blue"]},
    {"expr": "y > z - 1000"},
]


def make_rows(path: Path, count: int) -> None:
    """Write a year of events in order, with doubles that do not compress and text that does."""
    draw = np.random.default_rng(1)
    start = np.datetime64("2024-01-01", "us")
    at = start + np.sort(draw.integers(0, 366 * 86_400 * 1_000_000, count)).astype("timedelta64[us]")
    people = pl.Series([f"person-{number:06d}" for number in range(50_000)])
    words = pl.Series(["red", "green", "blue"])
    frame = pl.DataFrame({
        "id": np.arange(count), "who": people.gather(draw.integers(0, len(people), count)), "at": at,
        "x": draw.normal(0, 1, count), "y": draw.normal(0, 1, count), "z": draw.lognormal(0, 1, count),
        "n": draw.integers(0, 1000, count), "word": words.gather(draw.integers(0, 3, count)),
    }).with_columns(pl.col("at").dt.replace_time_zone("UTC"))  # fmt: skip
    frame.write_parquet(path, compression="uncompressed")


class Bench:
    """One project folder with one source."""

    def __init__(self, root: Path) -> None:
        self.root = root
        component = load_catalogue(root, ("files",)).get("source", "parquet")
        params = msgspec.convert({"path": "rows.parquet"}, component.params)
        said: dict[str, Any] = {"key": ["who"], "time": "at", "id": "id", "partition": "month", "expect": EXPECT}
        self.spec = msgspec.convert({"kind": "parquet", "params": {}, "columns": COLUMNS, **said}, _Loose)
        self.spec = SourceSpec(params=params, **{k: getattr(self.spec, k) for k in ("kind", "columns", *said)})
        self.source = component.build(params)
        self.count = 0

    def ingest(self) -> None:
        """Pin and ingest, with nothing remembered of digests."""
        shutil.rmtree(self.root / ".plumbline", ignore_errors=True)
        self.count += 1
        out = self.root / "out" / str(self.count)
        out.mkdir(parents=True)
        settings = {
            "source": "rows", "spec": identity(self.spec), "program": compile_source("rows", self.spec).to_json(),
            "pin": self.source.pin(self.root).identity,
        }  # fmt: skip
        place = Place(self.root, str(self.root / "snapshots"), str(self.root), ("files",), os.cpu_count() or 1, "1")
        ingest(Work("ingest.rows", settings, {}, out, place, print_nothing))

    def forget(self) -> None:
        """Throw the store away."""
        shutil.rmtree(self.root / "snapshots", ignore_errors=True)


class _Loose(SourceSpec, frozen=True, kw_only=True):
    """A spec whose parameters come later."""

    params: Any = None


def print_nothing(*_: object) -> None:
    """Hear progress."""


def plain(root: Path) -> None:
    """Read, write, hash: the floor of an ingestion."""
    target = root / "plain.parquet"
    pl.read_parquet(root / "rows.parquet").write_parquet(target, compression="zstd", compression_level=1)
    hash_file(target)
    target.unlink()


def hash_file(path: Path) -> str:
    """Read and hash: the floor of finding that nothing changed."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def cost(call: Callable[[], object]) -> tuple[float, float]:
    """Give the wall and CPU seconds of one call."""
    start, busy = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - busy


def ratio(over: list[tuple[float, float]], under: list[tuple[float, float]]) -> dict[str, float]:
    """Give the medians of the rounds' ratios."""
    pairs = list(zip(over, under, strict=True))
    return {
        name: round(statistics.median(a[index] / b[index] for a, b in pairs), 3)
        for index, name in enumerate(("wall", "cpu"))
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_rows(root / "rows.parquet", arguments.rows)
        bench = Bench(root)
        bench.ingest()
        found: dict[str, list[tuple[float, float]]] = {"plain": [], "ingest": [], "hash": [], "again": []}
        for _ in range(arguments.repeat):
            found["plain"].append(cost(lambda: plain(root)))
            bench.forget()
            found["ingest"].append(cost(bench.ingest))
            found["hash"].append(cost(lambda: hash_file(root / "rows.parquet")))
            head = open_snapshots(str(root / "snapshots")).resolve("data", "main")
            found["again"].append(cost(bench.ingest))
            if open_snapshots(str(root / "snapshots")).resolve("data", "main") != head:
                raise SystemExit("ingesting the same bytes again made a commit")
        size = (root / "rows.parquet").stat().st_size
    medians = {
        name: {
            "wall": round(statistics.median(v[0] for v in values), 3),
            "cpu": round(statistics.median(v[1] for v in values), 3),
        }
        for name, values in found.items()
    }
    figures = {
        "cores": os.cpu_count(), "rows": arguments.rows, "bytes": size, "seconds": medians,
        "throughput over plain": ratio(found["plain"], found["ingest"]), "again over hash": ratio(found["again"], found["hash"]),
    }  # fmt: skip
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
