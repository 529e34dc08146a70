"""Finding and decoding the events of one request, and pushing events: medians, in one run.

    .venv/bin/python benchmarks/online.py [--events 1000] [--keys 100] [--requests 300]

A program of 20 windowed features (4 windows x 5 aggregates) over events with 7 columns. `find` reads and decodes the
events of one key that was not read before; `find again` finds them kept; `frame` is the same as a frame, as batches take it;
`features` computes all 20 from what was found. Microseconds.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.components import load_catalogue
from engine.features.events import joins_of
from engine.features.prepared import prepare
from engine.features.program import FeatureProgram, compile_program
from engine.features.timestamps import TIMESTAMP
from engine.online.opening import open_cells, register
from engine.online.reader import StateReader
from engine.spec import SourceSpec, SpineSpec
from tests.features.worlds import Nowhere, typed

COLUMNS = {"at": "timestamp", "id": "i64", "user": "i64", "amount": "f64", "items": "i64", "kind": "str", "ok": "bool"}
HOUR = 3_600_000_000


def program() -> FeatureProgram:
    source = SourceSpec(
        kind="n", params=Nowhere(), columns=COLUMNS, key=("user",), time="at", id="id", decimals={"amount": 2}
    )
    feature = {
        "from": "tx",
        "of": "amount",
        "agg": ["count", "sum", "mean", "std", "max"],
        "window": ["1h", "1d", "7d", "60d"],
    }
    spine = SpineSpec(source="tx", request={"user": "i64"})
    return compile_program(typed({"amount_{agg}_{window}": feature}), spine, None, {"tx": source}).program


def events(keys: int, each: int, chance: random.Random) -> pl.DataFrame:
    count = keys * each
    return pl.DataFrame({
        "at": pl.Series([chance.randrange(60 * 24 * HOUR) for _ in range(count)]).cast(TIMESTAMP),
        "id": range(count),
        "user": [number % keys for number in range(count)],
        "amount": [round(chance.expovariate(0.01), 2) for _ in range(count)],
        "items": [chance.randrange(9) for _ in range(count)],
        "kind": [chance.choice(["card", "cash", "transfer", "refund"]) for _ in range(count)],
        "ok": [chance.random() < 0.9 for _ in range(count)],
    })  # fmt: skip


def timed(call: Callable[[int], Any], count: int) -> float:
    taken = []
    for number in range(count):
        started = time.perf_counter_ns()
        call(number)
        taken.append((time.perf_counter_ns() - started) / 1000)
    return round(statistics.median(taken), 1)


def measure(state: Any, keys: int, requests: int) -> dict[str, float]:
    at, (join,) = 60 * 24 * HOUR, joins_of(state.program)
    cold, warm, prepared = StateReader(state, kept=0), StateReader(state), prepare(state.program)
    spines = [
        pl.DataFrame({"event_time": pl.Series([at]).cast(TIMESTAMP), "user": [number % keys]})
        for number in range(requests)
    ]
    for number in range(keys):
        warm.read(join, (number,), at)
    return {
        "find": timed(lambda number: cold.read(join, (number % keys,), at), requests),
        "find again": timed(lambda number: warm.read(join, (number % keys,), at), requests),
        "frame": timed(lambda number: state.read(spines[number]), requests),
        "find and features": timed(lambda n: prepared.features({"event_time": at, "user": n % keys}, cold), requests),
        "find again and features": timed(
            lambda n: prepared.features({"event_time": at, "user": n % keys}, warm), requests
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--requests", type=int, default=300)
    asked = parser.parse_args()
    chance, made = random.Random(0), program()
    rows = events(asked.keys, asked.events, chance)
    found: dict[str, Any] = {"events a key": asked.events, "keys": asked.keys}
    with tempfile.TemporaryDirectory() as folder:
        catalogue = load_catalogue(Path(folder), ("state_stores",))
        for store in ("memory", "file"):
            cells = open_cells(f"{store}://{folder}", "online", catalogue)
            state = register(cells, made, "2024-01-01T00:00:00Z")
            started = time.perf_counter()
            for start in range(0, rows.height, 20_000):
                state.push("tx", rows[start : start + 20_000])
            filled = rows.height / (time.perf_counter() - started)
            found[store] = measure(state, asked.keys, asked.requests)
            more = rows.with_columns(pl.col("id") + 10**9)
            found[store] |= {
                "filled, events a second": round(filled),
                "push of one": timed(
                    lambda number, state=state, more=more: state.push("tx", more[number : number + 1]), 100
                ),
                "push of 100, other keys": timed(
                    lambda n, state=state, more=more: state.push("tx", more[n * 100 : n * 100 + 100]), 10
                ),
            }
            cells.close()
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
