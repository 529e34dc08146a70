"""A small project with scored rows, for the monitors as a whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

START = datetime(2024, 1, 1, tzinfo=UTC)


def scored(days: int, seed: int, *, start: datetime = START, per_day: int = 400) -> pl.DataFrame:
    """Rows whose label really has the score's probability, a day later."""
    random = np.random.default_rng(seed)
    count = days * per_day
    x, z = random.normal(size=count), random.normal(size=count)
    chance = 1 / (1 + np.exp(-(x - 0.5 * z - 0.5)))
    times = [start + timedelta(seconds=86_400 * index / per_day) for index in range(count)]
    return pl.DataFrame(
        {
            "row_id": [f"{seed}-{index}" for index in range(count)],
            "event_time": pl.Series(times, dtype=pl.Datetime("us", "UTC")),
            "x": x,
            "z": z,
            "country": random.choice(["ch", "de", "fr"], count),
            "prediction": chance,
            "label": (random.random(count) < chance).astype(float),
        }
    ).with_columns(label_known_at=pl.col("event_time") + pl.duration(days=1))


PIPELINE = """\
# @package _global_
name: small
owner: team
runbook: call the team
sources:
  events: {kind: csv, path: events.csv, columns: {id: str, at: timestamp, x: f64, y: i64}, key: [id], time: at, id: id}
spine: {source: events, request: {x: f64}}
features: {double: {expr: x * 2}}
label: {from: events, expr: y, maturity: 1d}
split: {kind: time_forward, train_until: 2024-02-01, validation_until: 2024-03-01}
train: {kind: linear}
watch: {chunk: {by: day}}
monitors:                      # the standard ones, with a cheap classifier
  drift: {kind: drift}
  prediction: {kind: prediction}
  multivariate: {kind: multivariate, severity: info, rows: 300, folds: 2}
  quality: {kind: quality, severity: critical}
  calibration: {kind: calibration}
  performance: {kind: performance, severity: critical}
  estimated: {kind: estimated}
  concept: {kind: concept}
  parity: {kind: parity, severity: critical}
  staleness: {kind: staleness}
  service: {kind: service, severity: critical}
notifiers:
  file: {kind: log, path: LOG, at_least: info}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with reference rows of 30 days, and rows to watch of 6 days."""
    (tmp_path / "conf" / "pipeline").mkdir(parents=True)
    text = PIPELINE.replace("LOG", str(tmp_path / "alerts.jsonl"))
    (tmp_path / "conf" / "pipeline" / "small.yaml").write_text(text)
    scored(30, 1).write_parquet(tmp_path / "reference.parquet")
    scored(6, 2, start=START + timedelta(days=40)).write_parquet(tmp_path / "rows.parquet")
    return tmp_path
