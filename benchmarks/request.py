"""One request, from its fields to a prediction, in process: 50 features, 20 of them windows over 1,000 events a key, 500 trees.

Prints percentiles for a key whose events the reader has at hand (as a store's cache has) and for events that are decoded anew
for every request, and what Polars needs for the same row. Run: `python benchmarks/request.py`.
"""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from engine.components import load_catalogue
from engine.contracts import FitRequest, Matrix
from engine.features.compute import compute
from engine.features.encoders import FittedEncoders
from engine.features.events import Events, FrameReader, Join, Key
from engine.features.prepared import prepare
from engine.features.prepared_encoders import prepare_columns
from engine.features.program import FeatureProgram, compile_program
from engine.features.timestamps import TIMESTAMP
from engine.modelling import ServingPredictor
from engine.spec import FEATURE_KINDS, SourceSpec, SpineSpec

KEYS, EVENTS, TREES, REQUESTS = 8, 1000, 500, 1000
DAY = 86_400_000_000
COLUMNS = {
    "id": "i64",
    "user": "i64",
    "at": "timestamp",
    "amount": "f64",
    "items": "i64",
    "shop": "str",
    "status": "str",
}


class Nowhere(msgspec.Struct, frozen=True):
    """Parameters of a source that is never read here."""


def make_program() -> FeatureProgram:
    """Fifty features: 20 windows, a lookup and 29 expressions over them and the request."""
    windows = {
        "amount_{agg}_{window}": {"agg": ["sum", "mean", "std", "min", "max"], "of": "amount", "window": ["1d", "30d"]},
        "items_{agg}_{window}": {"agg": ["sum", "max"], "of": "items", "window": ["1d", "30d"]},
        "shops_{window}": {"agg": "n_distinct", "of": "shop", "window": ["1d", "30d"]},
        "bad_{window}": {"agg": "count", "where": "status = 'bad'", "window": ["1d", "30d"]},
        "median_{window}": {"agg": {"quantile": {"q": 0.5}}, "of": "amount", "window": ["1d", "30d"]},
    }
    features: dict[str, Any] = {name: {"from": "txns", **feature} for name, feature in windows.items()}
    features["last_amount"] = {"lookup": "txns.amount", "default": 0.0}
    features["hour"] = {"expr": "HOUR(event_time, 'Europe/Amsterdam')"}
    features["night"] = {"expr": "hour NOT BETWEEN 6 AND 21"}
    features["to_mean"] = {"expr": "amount / NULLIF(amount_mean_30d, 0)", "default": 1.0}
    for place in range(26):
        features[f"made_{place}"] = {
            "expr": f"COALESCE((amount - amount_mean_1d) / (amount_std_30d + {place + 1}), items)"
        }
    nowhere = Nowhere()
    source = SourceSpec(
        kind="n", params=nowhere, columns=COLUMNS, key=("user",), time="at", id="id", decimals={"amount": 2}
    )
    typed = {
        name: msgspec.convert(feature, next(FEATURE_KINDS[key] for key in FEATURE_KINDS if key in feature))
        for name, feature in features.items()
    }
    request = {"user": "i64", "amount": "f64", "items": "i64"}
    return compile_program(typed, SpineSpec(source="txns", request=request), None, {"txns": source}).program


def make_history(chance: np.random.Generator) -> pl.DataFrame:
    """Sixty days of events of a few keys."""
    size = KEYS * EVENTS
    return pl.DataFrame(
        {
            "id": np.arange(size),
            "user": np.arange(size) % KEYS,
            "at": pl.Series(np.sort(chance.integers(0, 60 * DAY, size))).cast(TIMESTAMP),
            "amount": np.round(chance.lognormal(3, 1, size), 2),
            "items": chance.integers(1, 9, size),
            "shop": chance.choice([f"shop {number}" for number in range(40)], size),
            "status": chance.choice(["ok", "ok", "ok", "bad"], size),
        }
    )


class Fresh:
    """Gives new events for every request, so that nothing derived from them is kept."""

    def __init__(self, inner: FrameReader) -> None:
        self._inner = inner

    def read(self, join: Join, key: Key, at: int) -> Events:
        """See `EventReader`."""
        found = self._inner.read(join, key, at)
        return Events(found.time, found.available, found.columns, found.until)


def measure(call: Callable[[dict[str, Any]], Any], rows: list[dict[str, Any]]) -> dict[str, float]:
    """Percentiles in microseconds."""
    for row in rows[:20]:
        call(row)
    took = []
    gc.disable()
    for row in rows:
        started = time.perf_counter_ns()
        call(row)
        took.append((time.perf_counter_ns() - started) / 1000)
    gc.enable()
    return {f"p{share}": round(float(np.percentile(took, share)), 1) for share in (50, 90, 99)}


def train(chance: np.random.Generator, width: int) -> Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    """The shipped trainer's predictor of so many trees."""
    component = load_catalogue(Path(__file__).parent, ("lightgbm_trainer",)).get("trainer", "lightgbm")
    params = {"rounds": TREES, "early_stopping": 0, "params": {"num_leaves": 31}}
    trainer = component.build(msgspec.convert(params, component.params))
    x = chance.normal(size=(2_000, width))
    y = (x[:, 0] + x[:, 1] * x[:, 2] + chance.normal(size=2_000) > 0).astype(float)
    rows = Matrix(x, y, tuple(f"column_{place}" for place in range(width)))
    files = trainer.train(rows, rows, FitRequest("binary", 1, 1, lambda *_: None))
    predictor = trainer.load(files)
    assert isinstance(predictor, ServingPredictor)
    predictor.prepare()  # as a server does
    return predictor.predict


def main() -> None:
    """Measure, compare bits, print one JSON object."""
    chance, dice = np.random.default_rng(7), random.Random(7)
    program, history = make_program(), make_history(chance)
    reader, prepared = FrameReader(program, {"txns": history}), prepare(program)
    names = list(program.computed_names)
    columns = [name for name in names if program.output_types[name] in {"f64", "i64", "bool"}]
    predict = train(chance, len(columns))
    numbers = prepare_columns(prepared, FittedEncoders(), columns)
    rows = [
        {
            "event_time": 60 * DAY - dice.randrange(DAY),
            "user": dice.randrange(KEYS),
            "amount": dice.random() * 90,
            "items": 3,
        }
        for _ in range(REQUESTS)
    ]

    def score(row: dict[str, Any], events: Any) -> float:
        made = np.array([numbers(prepared.row(row, events))], dtype=np.float64)
        return float(predict(made)[0])

    def frames(row: dict[str, Any]) -> pl.DataFrame:
        spine = pl.DataFrame({**{name: [value] for name, value in row.items()}})
        spine = spine.with_columns(pl.col("event_time").cast(TIMESTAMP))
        return compute(program, spine, {"txns": history.filter(pl.col("user") == row["user"])})

    for row in rows[:20]:
        assert frames(row).row(0) == tuple(prepared.features(row, reader))
    fresh = Fresh(reader)
    print(
        json.dumps(
            {
                "features": len(names),
                "windows": sum(hasattr(program.by_name[name], "window") for name in names),
                "microseconds": {
                    "features, events at hand": measure(lambda row: prepared.row(row, reader), rows),
                    "features, events anew": measure(lambda row: prepared.row(row, fresh), rows),
                    "features and trees, events at hand": measure(lambda row: score(row, reader), rows),
                    "features and trees, events anew": measure(lambda row: score(row, fresh), rows),
                    "features by frames": measure(frames, rows[:50]),
                },
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
