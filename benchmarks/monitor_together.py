"""How often *any* of the standard monitors says alarm of a chunk in which nothing changed: all kinds at once, on real rows.

    python benchmarks/monitor_together.py --references 500

Each reference is a new world: training rows, held-out rows and one chunk of `--rows` rows each, a model whose scores are true
probabilities, labels that all came. With `--wobble` every column of every chunk moves by a normal 0.05 sd, and the base rate by
0.05 in logits. Prints, by monitor and over all, the share of chunks in alarm with its binomial error.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from engine.api import Declared, declare
from engine.project import find_project
from engine.watch.observations import Observations
from engine.watch.observe import read_chunks

START = datetime(2024, 1, 1, tzinfo=UTC)
NUMBERS, CHUNKS = 8, 10
PIPELINE = """\
# @package _global_
name: world
sources:
  events: {kind: csv, path: events.csv, columns: {id: str, at: timestamp, x0: f64, y: i64}, key: [id], time: at, id: id}
spine: {source: events, request: {x0: f64}}
features: {double: {expr: x0 * 2}}
label: {from: events, expr: y, maturity: 1d}
split: {kind: time_forward, train_until: 2024-02-01, validation_until: 2024-03-01}
train: {kind: linear}
watch: {chunk: {count: 1}}
monitors: default
"""


def declared_world() -> Declared:
    """Declare a pipeline with the standard monitors."""
    folder = Path(tempfile.mkdtemp(prefix="world-"))
    (folder / "conf" / "pipeline").mkdir(parents=True)
    (folder / "conf" / "pipeline" / "world.yaml").write_text(PIPELINE)
    return declare(find_project(folder), ["pipeline=world"])


def draw(rows: int, rng: np.random.Generator, wobble: float, start: datetime) -> pl.DataFrame:
    """One chunk of rows: numbers, three categories, a true score, a label."""
    numbers = rng.normal(size=(rows, NUMBERS)) + rng.normal(0.0, wobble, NUMBERS)
    moved = rng.normal(0.0, wobble)
    chance = 1 / (1 + np.exp(-(numbers[:, 0] - 0.5 * numbers[:, 1] - 1.0)))
    truth = 1 / (1 + np.exp(-(numbers[:, 0] - 0.5 * numbers[:, 1] - 1.0 + moved)))
    categories = {}
    for size in (2, 6, 300):
        shares = np.arange(1, size + 1) ** -0.8 * np.exp(rng.normal(0.0, wobble, size))
        categories[f"c{size}"] = rng.choice(size, rows, p=shares / shares.sum()).astype(str)
    times = pl.Series([start + timedelta(seconds=60 * index) for index in range(rows)], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({
        "row_id": [f"{start:%Y%m%d}-{index}" for index in range(rows)], "event_time": times,
        **{f"x{index}": numbers[:, index] for index in range(NUMBERS)}, **categories,
        "prediction": chance, "label": (rng.random(rows) < truth).astype(float),
    })  # fmt: skip


def world(rows: int, seed: int, wobble: float) -> Observations:
    """Training rows, held-out rows, and one chunk, drawn alike."""
    rng = np.random.default_rng([seed, rows, int(wobble * 100)])
    drawn = [draw(rows, rng, wobble, START + timedelta(days=30 * index)) for index in range(2 * CHUNKS + 1)]
    columns = tuple(name for name in drawn[0].columns if name not in {"row_id", "event_time", "prediction", "label"})
    trained, held = pl.concat(drawn[:CHUNKS]), pl.concat(drawn[CHUNKS:-1])
    return Observations(
        trained, held, drawn[-1], columns, "model@1", "binary", {"trained_until": trained["event_time"].max()}
    )


def main() -> None:
    """Draw, read, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=500)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--wobble", type=float, default=0.0)
    parser.add_argument("--words", action="store_true", help="print what each alarm said")
    arguments = parser.parse_args()
    declared, alarms = declared_world(), Counter[str]()
    for seed in range(arguments.references):
        seen = world(arguments.rows, seed, arguments.wobble)
        now = START + timedelta(days=900)
        readings = read_chunks(declared, seen, now, None, lambda *_: None).readings
        loud = [item for item in readings if item.status in {"alarm", "broken"} and item.kind != "staleness"]
        alarms.update({item.monitor for item in loud} | ({"any"} if loud else set()))
        alarms.update({"any, no multivariate"} if [item for item in loud if item.kind != "multivariate"] else set())
        if arguments.words:
            for item in loud:
                print(f"    {seed} {item.monitor}: {item.words[:160]}", flush=True)
    print(f"{arguments.references} references, {arguments.rows} rows, K = {CHUNKS}, wobble {arguments.wobble}")
    for name, count in sorted(alarms.items(), key=lambda item: -item[1]):
        rate = count / arguments.references
        print(f"  {name:<22} {rate:6.3f} ± {np.sqrt(max(rate * (1 - rate), 1e-4) / arguments.references):.3f}")


if __name__ == "__main__":
    main()
