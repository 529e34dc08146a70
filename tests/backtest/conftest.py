"""A small generated history of half a year: after sixteen weeks another product is sold, of which `x` means the opposite."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
TURN = 16
WEEKS = 24
_A_DAY = 40

PIPELINE = """\
# @package _global_
name: turning
sources:
  events:
    kind: csv
    path: events.csv
    columns: {id: str, at: timestamp, seen: timestamp, product: str, x: f64, z: f64, y: i64}
    key: [id]
    time: at
    id: id
    available: {column: seen}
spine: {source: events, request: {product: str, x: f64, z: f64}}
features:
  old_x: {expr: "CASE WHEN product = 'old' THEN x ELSE 0.0 END"}
  new_x: {expr: "CASE WHEN product = 'new' THEN x ELSE 0.0 END"}
  also: {expr: z + 0.0}
label: {from: events, expr: y, maturity: 1d}
split: {kind: time_forward, validation: 0.06, test: 0.06}
train: {kind: linear, task: binary}
evaluate: {metrics: [roc_auc, log_loss], resamples: 100}
gates:
  size: {kind: min_rows, rows: 50}
  champion: {kind: not_worse_than_champion, margin: 0.02}
watch: {chunk: {by: week}, min_rows: 20}
monitors:
  inputs: {kind: drift}
  outcome: {kind: performance}
triggers:
  worse: {kind: performance, metric: roc_auc, minimum: 0.7}
retrain: {cooldown: 6d}
"""


def generated(weeks: int = WEEKS, seed: int = 5) -> pl.DataFrame:
    """Rows in order of time; after `TURN` weeks the new product has taken the old one's place."""
    random = np.random.default_rng(seed)
    count = weeks * 7 * _A_DAY
    times = [START + timedelta(seconds=86_400 * index / _A_DAY) for index in range(count)]
    late = np.arange(count) >= TURN * 7 * _A_DAY
    x, z = random.normal(size=count), random.normal(size=count)
    chance = 1 / (1 + np.exp(-(np.where(late, -2.0, 2.0) * x - 0.7 * z)))
    return pl.DataFrame(
        {
            "id": [f"r{index:06d}" for index in range(count)],
            "at": pl.Series(times, dtype=pl.Datetime("us", "UTC")),
            "product": np.where(late, "new", "old"),
            "x": x,
            "z": z,
            "y": (random.random(count) < chance).astype(np.int64),
        }
    ).with_columns(seen=pl.col("at") + pl.duration(hours=20))


def write_project(root: Path, rows: pl.DataFrame, pipeline: str = PIPELINE) -> Path:
    """Make a project of a history."""
    (root / "conf" / "pipeline").mkdir(parents=True, exist_ok=True)
    (root / "conf" / "pipeline" / "turning.yaml").write_text(pipeline)
    rows.with_columns(pl.col("at", "seen").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")).write_csv(root / "events.csv")
    return root


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of the whole history; module-wide, since its cached nodes serve every test."""
    return write_project(tmp_path_factory.mktemp("turning"), generated())
