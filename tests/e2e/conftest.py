"""A small project of a user's own: rides with a label, a CSV source, every node of the pipeline, a few seconds a run."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

ENGINE = str(Path(sys.executable).with_name("engine"))
START = datetime(2024, 1, 1, tzinfo=UTC)

PIPELINE = """\
# @package _global_
defaults:
  - /split: time_forward
  - /train: lightgbm_binary
  - /gates: standard
  - _self_

name: rides
sources:
  rides:
    kind: csv
    path: data/rides.csv
    columns: {ride_id: str, driver: str, distance: f64, hour: i64, at: timestamp, late: i64}
    key: [driver]
    time: at
    id: ride_id
    available: {delay: 1h}
    decimals: {distance: 2}
    expect:
      - {column: distance, minimum: 0, maximum: 1000}
spine: {source: rides, request: {driver: str, distance: f64, hour: i64}}
features:
  km: {expr: distance}
  clock: {expr: hour}
  driver_ix: {encode: driver, with: vocab}
  driver_late_{window}: {from: rides, of: late, agg: mean, window: [1d, 7d]}
label: {from: rides, expr: late, maturity: 1h}
split: {train_until: 2024-01-20, validation_until: 2024-01-25}
train: {rounds: 20, early_stopping: 0, params: {min_data_in_leaf: 20}}
baseline: {kind: majority}
evaluate: {slices: [driver], min_slice_rows: 50, resamples: 100}
gates: {test_size: {rows: 100, positives: 10, negatives: 10}}
"""


@dataclass(frozen=True)
class Outcome:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class UserProject:
    """A project folder and the command in it."""

    root: Path

    def at(self, root: Path) -> UserProject:
        return UserProject(root)

    def engine(self, *arguments: str, timeout: float = 120, env: dict[str, str] | None = None) -> Outcome:
        done = subprocess.run(
            [ENGINE, *arguments], cwd=self.root, capture_output=True, text=True, timeout=timeout, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, "NO_COLOR": "1", **(env or {})},
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [ENGINE, *arguments], cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new))

    def record(self, run_id: str) -> Any:
        return json.loads((self.root / "runs" / run_id / "run.json").read_bytes())


def rides(count: int = 4000, seed: int = 7) -> str:
    """Rides whose lateness depends on driver, distance and hour."""
    draw = random.Random(seed)
    lines = ["ride_id,driver,distance,hour,at,late"]
    for index in range(count):
        at = START + timedelta(minutes=10 * index + draw.randrange(10))
        driver = f"d{draw.randrange(8)}"
        distance = round(draw.expovariate(1 / 12), 2)
        odds = 0.05 + 0.04 * int(driver[1:]) + min(distance, 60) / 150 + (0.25 if 16 <= at.hour <= 19 else 0)
        late = int(draw.random() < odds)
        lines.append(f"r{index},{driver},{distance},{at.hour},{at:%Y-%m-%dT%H:%M:%SZ},{late}")
    return "\n".join(lines) + "\n"


def make_project(root: Path) -> UserProject:
    project = UserProject(root)
    project.write("conf/pipeline/rides.yaml", PIPELINE)
    project.write("data/rides.csv", rides())
    return project


@pytest.fixture
def project(tmp_path: Path) -> UserProject:
    """A fresh project; nothing has run."""
    return make_project(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[UserProject, Any]:
    """A project after its first run, shared by tests that only read it; and that run's answer."""
    project = make_project(tmp_path_factory.mktemp("finished"))
    outcome = project.engine("run", "pipeline=rides", "--json", "-q")
    assert outcome.code == 0, outcome.err
    return project, outcome.json
