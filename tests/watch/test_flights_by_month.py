"""The flights of 2013, month by month, as a golden: what each monitor says of a model trained on winter, and what it names first.

`flights_rows.parquet` are 700 flights of each month from May on, `flights_reference.parquet` 6,000 of April, both thinned evenly
from the run that `docs/monitors.md` tells of, with its scores. PLUMBLINE_WRITE_GOLDENS=1 writes the golden anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.cli import main

GOLDEN = Path(__file__).parents[1] / "golden" / "monitors"
PIPELINE = """\
# @package _global_
name: flights
sources:
  events: {kind: csv, path: events.csv, columns: {id: str, at: timestamp, x: f64, y: i64}, key: [id], time: at, id: id}
spine: {source: events, request: {x: f64}}
features: {double: {expr: x * 2}}
label: {from: events, expr: y, maturity: 1d}
split: {kind: time_forward, train_until: 2013-04-01, validation_until: 2013-05-01}
train: {kind: linear}
watch: {chunk: {by: month}}
monitors:
  drift: {kind: drift}
  prediction: {kind: prediction}
  quality: {kind: quality, severity: critical}
  calibration: {kind: calibration}
  performance: {kind: performance, severity: critical}
  estimated: {kind: estimated}
  concept: {kind: concept}
"""


def test_what_is_said_of_each_month(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf" / "pipeline").mkdir(parents=True)
    (tmp_path / "conf" / "pipeline" / "flights.yaml").write_text(PIPELINE)
    files = ["--rows", str(GOLDEN / "flights_rows.parquet"), "--reference", str(GOLDEN / "flights_reference.parquet")]
    main(["monitor", "pipeline=flights", "--project", str(tmp_path), *files, "--at", "2014-01-01", "--json"])
    answer = json.loads(capsys.readouterr().out)
    said = {}
    for reading in answer["readings"]:
        alarms = [item["name"] for item in reading["findings"] if item["status"] == "alarm"]
        said.setdefault(reading["chunk"], {})[reading["monitor"]] = [reading["status"], *alarms[:3]]
    path = GOLDEN / "flights_said.json"
    if os.environ.get("PLUMBLINE_WRITE_GOLDENS"):
        path.write_text(json.dumps(said, indent=1) + "\n")
    assert said == json.loads(path.read_text())
    assert answer["exit_code"] == 5
