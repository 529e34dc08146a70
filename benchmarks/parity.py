"""Differing bits between batch, single row and online, over random programs and random histories.

    .venv/bin/python benchmarks/parity.py [--values 1000000] [--seed 0] [--store memory|file]

Each world has a program of some 80 columns (windows of every aggregate, lookups, expressions, composite keys), events with
ties, duplicates, later versions, late arrival, nulls and huge values, and requests at many times. Compared with one batch
over everything: each row alone; all rows from the online state, filled in random order and pushes; each row alone from
that state, by frames and by arrays. Prints one JSON object; exits with 1 when a bit differs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.components import load_catalogue
from engine.features.compute import compute
from engine.features.prepared import prepare
from engine.online.opening import open_cells, register
from engine.online.reader import StateReader
from engine.online.state import EventState
from engine.spec import Available
from tests.features import worlds

ANY = ("count", "min", "max", "first", "last", "n_distinct", {"quantile": {"q": [0.1, 0.5, 0.999]}}, {"last_k": {"k": 2}},
       {"top_k": {"k": 2}})  # fmt: skip
NUMERIC = ("sum", "mean", "std", {"smoothed_mean": {"prior": 0.01, "weight": 20.0}})
EDGES = {"histogram": {"edges": [-1.25, 0.0, 99.995]}}
BY = (["k"], ["k"], [], ["k", "j"], ["j"], ["k", "j", "b"])


def window(chance: random.Random, *, include: bool) -> dict[str, Any]:
    type_ = chance.choice(["f64", "f64", "i64", "str", "bool", "timestamp"])
    aggregates = [
        *ANY,
        *(NUMERIC if type_ in {"f64", "i64", "bool"} else ()),
        *([EDGES] if type_ in {"f64", "i64"} else ()),
    ]
    feature = {
        "from": "ev",
        "of": chance.choice(worlds.OF[type_]),
        "agg": chance.sample(aggregates, 4),
        "window": chance.sample(["1us", "3us", "6us", "20us", "1d", "52w"], 2),
        "by": chance.choice(BY),
    }
    if type_ == "f64":
        feature["decimals"] = chance.choice([0, 2, 5])
    where = chance.choice(worlds.WHERE)
    if where is not None:
        feature["where"] = where
    if include and type_ != "timestamp" and chance.random() < 0.3:
        feature["include_request"] = True
    summed = any(item in ("sum", "mean", "std") or "smoothed_mean" in item for item in feature["agg"])
    if type_ == "f64" and not summed:
        del feature["decimals"]
    return feature


def world(chance: random.Random, events: int, requests: int) -> worlds.Scene:
    id_ = chance.choice(["id", "id", None])
    features: dict[str, Any] = {f"w{n}_{{agg}}_{{window}}": window(chance, include=id_ is not None) for n in range(7)}
    features |= {f"l{n}": {"lookup": f"ev.{c}", **({"max_age": "6us"} if n % 2 else {})} for n, c in enumerate("vnsb")}
    features |= {"e0": {"expr": "n / 3"}, "e1": {"expr": "v * 2.0 + 1.5", "default": 0.5}}
    base = chance.choice(worlds.BASES)
    rows = [worlds.crowded(chance, base) for _ in range(events)]
    asked = [
        {**worlds.crowded(chance, base), "event_time": base + chance.randrange(24), "row_id": n}
        for n in range(requests)
    ]
    dimension = [{"k": key, "d": chance.gauss(0, 1), "c": chance.randrange(9)} for key in "xyx"]
    available = chance.choice([Available(), Available(delay="2us"), Available(column="a"), Available(column="a")])
    return worlds.scene(features, rows, asked, dimension, worlds.Setting(id_, available))


def fill(state: EventState, scene: worlds.Scene, chance: random.Random) -> None:
    for name in scene.program.feature_sources:
        frame = scene.history[name]
        shuffled = frame[chance.sample(range(frame.height), frame.height)]
        told_apart = name != "ev" or scene.program.sources["ev"].id is not None
        start = 0
        while start < shuffled.height:
            part = shuffled[start : start + chance.choice([1, 3, 20, 100])]
            state.push(name, part)
            if told_apart and chance.random() < 0.3:
                state.push(name, part)
            start += part.height


def differing(scene: worlds.Scene, state: EventState) -> tuple[int, int]:
    program, spine = scene.program, scene.spine
    batch = worlds.bits(compute(program, spine, scene.history))
    ones = [spine[row : row + 1] for row in range(spine.height)]
    prepared, reader = prepare(program), StateReader(state)
    plain = spine.with_columns(pl.selectors.datetime().dt.epoch("us")).select("event_time", *program.spine.request)
    paths = [
        [worlds.bits(compute(program, one, scene.history))[0] for one in ones],
        worlds.bits(compute(program, spine, state.read(spine))),
        [worlds.bits(compute(program, one, state.read(one)))[0] for one in ones],
        [tuple(map(worlds.bits_of, prepared.features(row, reader))) for row in plain.iter_rows(named=True)],
    ]
    pairs = [
        (a, b)
        for path in paths
        for left, right in zip(path, batch, strict=True)
        for a, b in zip(left, right, strict=True)
    ]
    return len(pairs), sum(a != b for a, b in pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", choices=["memory", "file"], default="file")
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    started, compared, wrong, count = time.perf_counter(), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        cells = open_cells(f"{asked.store}://{folder}", "parity", load_catalogue(Path(folder), ("state_stores",)))
        while compared < asked.values:
            scene = world(chance, chance.choice([0, 40, 300]), 40)
            cells.clear()
            state = register(cells, scene.program, "2024-01-01T00:00:00Z")
            fill(state, scene, chance)
            some, bad = differing(scene, state)
            compared, wrong, count = compared + some, wrong + bad, count + 1
        cells.close()
    print(json.dumps({"worlds": count, "compared": compared, "differing": wrong, "seed": asked.seed, "store": asked.store,
                      "seconds": round(time.perf_counter() - started, 1)}))  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
