"""A small project with two registered versions, run once a session; and services over it without sockets."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.clock import FixedClock
from engine.records import ModelVersion
from engine.serve.app import Application, Limits
from engine.serve.feedback import FeedbackStore
from engine.serve.lanes import LaneMaker
from engine.serve.metrics import Metrics
from engine.serve.segments import SegmentLimits
from engine.serve.service import Live, Service
from engine.serve.states import EventJournal
from engine.stores.artefacts import LocalArtefactStore
from engine.stores.database import open_database
from engine.stores.registry import Registry

ENGINE = str(Path(sys.executable).with_name("engine"))
NOW = datetime(2024, 2, 1, tzinfo=UTC)
START = datetime(2024, 1, 1, tzinfo=UTC)

PIPELINE = """\
# @package _global_
defaults: [/split: time_forward, /train: lightgbm_binary, /gates: standard, _self_]
name: rides
sources:
  rides:
    kind: csv
    path: data/rides.csv
    columns: {ride_id: str, driver: str, distance: f64, hour: i64, at: timestamp, late: i64}
    derive: {far: distance > 10}
    key: [driver]
    time: at
    id: ride_id
    available: {delay: 1h}
    decimals: {distance: 2}
    where: "hour >= 0"
spine: {source: rides, request: {driver: str, distance: f64, hour: i64}}
features:
  km: {expr: distance}
  clock: {expr: hour}
  driver_ix: {encode: driver, with: vocab}
  driver_late_{window}: {from: rides, of: late, agg: mean, window: [1d, 7d]}
  driver_far: {from: rides, where: far, agg: count, window: 7d}
label: {from: rides, expr: late, maturity: 1h}
split: {train_until: 2024-01-06, validation_until: 2024-01-08}
train: {rounds: 10, early_stopping: 0, params: {min_data_in_leaf: 20}}
baseline: {kind: majority}
evaluate: {resamples: 50}
gates: {test_size: {rows: 10, positives: 1, negatives: 1}}
"""


def rides(count: int = 1500, seed: int = 7) -> str:
    draw = random.Random(seed)
    lines = ["ride_id,driver,distance,hour,at,late"]
    for index in range(count):
        at = START + timedelta(minutes=10 * index + draw.randrange(10))
        driver, distance = f"d{draw.randrange(8)}", round(draw.expovariate(1 / 12), 2)
        odds = 0.05 + 0.04 * int(driver[1:]) + min(distance, 60) / 100 + (0.25 if 16 <= at.hour <= 19 else 0)
        lines.append(f"r{index},{driver},{distance},{at.hour},{at:%Y-%m-%dT%H:%M:%SZ},{int(draw.random() < odds)}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Rides:
    """The project and its registry; version 1 was promoted, version 2 is registered beside it."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / ".plumbline"

    @property
    def registry(self) -> Registry:
        return Registry(open_database(str(self.home / "state.db")))

    def version(self, number: int) -> ModelVersion:
        return next(item for item in self.registry.versions("rides") if item.version == number)

    def engine(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ENGINE, *arguments], cwd=self.root, capture_output=True, text=True, timeout=300, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Rides:
    root = tmp_path_factory.mktemp("served")
    (root / "conf" / "pipeline").mkdir(parents=True)
    (root / "conf" / "pipeline" / "rides.yaml").write_text(PIPELINE)
    (root / "data").mkdir()
    (root / "data" / "rides.csv").write_text(rides())
    made = Rides(root)
    for overrides in ([], ["train.rounds=20"]):
        done = made.engine("run", "pipeline=rides", "-q", "--json", "registry.promote=manual", *overrides)
        assert json.loads(done.stdout)["status"] == "succeeded", done.stderr
    done = made.engine("models", "promote", "rides", "1", "--force", "--reason", "first")
    assert done.returncode == 0, done.stderr
    return made


@dataclass
class Answer:
    """What a client sees."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """An application asked without a socket."""

    app: Application
    maker: LaneMaker

    @property
    def service(self) -> Service:
        return self.app.service

    async def ask(
        self, method: str, path: str, body: bytes | dict[str, Any] | list[Any] = b"", **headers: str
    ) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent: list[dict[str, Any]] = []
        parts = iter([{"type": "http.request", "body": content, "more_body": False}])

        async def receive() -> dict[str, Any]:
            return next(parts)

        async def send(message: Any) -> None:
            sent.append(message)

        encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": encoded, "query_string": b""}
        await self.app(scope, receive, send)
        shown = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], sent[1]["body"], shown)

    def post(self, path: str, body: bytes | dict[str, Any] | list[Any], **headers: str) -> Answer:
        return asyncio.run(self.ask("POST", path, body, **headers))

    def get(self, path: str, **headers: str) -> Answer:
        return asyncio.run(self.ask("GET", path, **headers))


def memory_state(program: Any) -> Any:
    from engine.online.memory import MemoryCells
    from engine.online.state import EventState

    return EventState(program, MemoryCells())


def make_server(
    project: Rides, home: Path, *, token: str | None = None, version: int = 1, limits: Limits | None = None,
    open_state: Callable[[Any], Any] = memory_state,
) -> Server:  # fmt: skip
    metrics, clock = Metrics(), FixedClock(NOW)
    journal = EventJournal(home / "events", "rides")
    maker = LaneMaker(
        LocalArtefactStore(project.home / "artefacts"), project.root, open_state, journal, home / "predictions",
        SegmentLimits(), metrics, clock,
    )  # fmt: skip
    feedback = FeedbackStore(home / "feedback", "rides", SegmentLimits(), lambda _: None)
    service = Service(Live(maker.open(project.version(version))), feedback, journal, metrics, clock)
    return Server(Application(service, limits or Limits(), token), maker)


@pytest.fixture
def server(project: Rides, tmp_path: Path) -> Iterator[Server]:
    made = make_server(project, tmp_path)
    yield made
    close(made)


def close(made: Server) -> None:
    made.app.batcher.close()
    for lane in made.service.live.lanes:
        made.maker.close(lane)
    made.service.feedback.writer.close()
    made.service.journal.close()


ROW = {"driver": "d1", "distance": 3.5, "hour": 4}
