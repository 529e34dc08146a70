"""Rollouts: who gets the challenger, what the comparison leads to, and that all of it is in the ledger."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import ConflictError
from engine.records import RolloutState
from engine.serve.buckets import BUCKETS, bucket_of, is_in
from engine.serve.judging import judge
from engine.serve.rollout import router_of
from engine.serve.schema import Rows
from engine.spec.rollout import RolloutSpec, RolloutStep
from engine.stores import rollouts
from engine.stores.database import open_database
from engine.stores.ledger import Versions, Why
from engine.stores.registry import Registry
from tests.serve.conftest import NOW, Rides, close, make_server

IDS = int(os.environ.get("PLUMBLINE_BUCKET_IDS", "60000"))


def spec(*shares: float, **fields: Any) -> RolloutSpec:
    steps = tuple(RolloutStep(share=share, min_labels=30) for share in shares)
    return RolloutSpec(entity="driver", steps=steps, **{"margin": 1.0, **fields})


def test_shares_are_right_and_a_ramp_takes_only_who_joins() -> None:
    buckets = [bucket_of("salt", [f"user-{index}"]) for index in range(IDS)]
    error = 100 * (0.04 * 0.96 / IDS) ** 0.5 * 8 if IDS < 1_000_000 else 0.2
    for share in (0.05, 0.2, 0.5):
        assert abs(sum(is_in(bucket, share) for bucket in buckets) / IDS - share) * 100 <= max(0.2, error)
    small, large = ({index for index, bucket in enumerate(buckets) if is_in(bucket, share)} for share in (0.05, 0.2))
    assert small < large
    assert {bucket_of("other", [f"user-{index}"]) == buckets[index] for index in range(100)} != {True}
    assert not is_in(bucket_of("salt", [None]), 1.0)
    assert max(bucket for bucket in buckets if bucket is not None) < BUCKETS
    assert bucket_of("s", ["a", "b"]) != bucket_of("s", ["ab", ""])


def test_a_ramp_never_takes_away() -> None:
    with pytest.raises(msgspec.ValidationError, match="never fall"):
        msgspec.convert({"entity": "driver", "steps": [{"share": 0.5}, {"share": 0.2}]}, RolloutSpec)


class World:
    """A server with both versions in place, a registry of its own, and callers who send labels."""

    def __init__(self, project: Rides, folder: Path, declared: RolloutSpec) -> None:
        for path in project.home.glob("state.db*"):
            shutil.copy(path, folder / path.name)
        self.registry = Registry(open_database(str(folder / "state.db")))
        self.champion = 1
        held = self.registry.alias("rides", "champion")
        assert held is not None
        if held.version != 1:
            why = Why("test", "start")
            self.registry.move_alias("rides", "champion", Versions(held.version, 1), why, action="promote")
        self.server = make_server(project, folder)
        self.folder = folder
        rollouts.begin(self.registry, rollouts.Start("rides", "champion", 2, declared, "test"))
        self.lane = self.server.maker.open(project.version(2), "challenger")
        self.shadow = self.server.maker.open(project.version(2), "shadow")
        self.draw = random.Random(5)
        self.follow()

    @property
    def state(self) -> RolloutState:
        found = rollouts.current(self.registry, "rides")
        assert found is not None
        return found

    def follow(self) -> None:
        service = self.server.service
        service.live = replace(service.live, others=(self.lane,), router=router_of(self.state, self._shadow))

    def _shadow(self, rows: Rows) -> None:
        from engine.serve.prediction_log import Answered

        scored = self.shadow.scorer.score(rows)
        self.shadow.log.append(rows, scored, Answered(self.server.service.now(), "{}", "shadow"))

    def ask(self, count: int) -> list[dict[str, Any]]:
        rows = [
            {
                "driver": f"e{self.draw.randrange(10**9)}",
                "distance": self.draw.random() * 30,
                "hour": self.draw.randrange(24),
            }
            for _ in range(count)
        ]
        made: list[dict[str, Any]] = self.server.post("/predict", {"rows": rows}).json["predictions"]
        assert len(made) == count
        return made

    def label(self, answers: list[dict[str, Any]], label: Any) -> None:
        sent = [{"prediction_id": item["prediction_id"], "label": label(item)} for item in answers]
        assert self.server.post("/feedback", {"labels": sent}).status == 200

    def judge(self) -> RolloutState:
        found = judge(
            self.registry, self.folder / "predictions", self.folder / "feedback", "rides", NOW + timedelta(days=5000)
        )
        assert found is not None
        self.follow()
        return found

    def close(self) -> None:
        self.server.maker.close(self.lane)
        self.shadow.log.writer.close()
        self.server.service.live = replace(self.server.service.live, others=(), router=None)
        close(self.server)


@pytest.fixture
def world(project: Rides, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(project, tmp_path, request.param)
    # The ledger's clock is the machine's, the server's stands still before it: let answers count from the beginning.
    made.server.service.clock = made.registry._clock
    yield made
    made.close()


@pytest.mark.parametrize("world", [spec(0.5, 1.0)], indirect=True)
def test_a_split_is_sticky_steps_are_taken_and_the_winner_is_promoted(world: World) -> None:
    rows = [{"driver": f"e{index}", "distance": 1.0, "hour": 3} for index in range(200)]
    first, again = (world.server.post("/predict", {"rows": rows}).json["predictions"] for _ in range(2))
    models = [item["model"] for item in first]
    assert models == [item["model"] for item in again]
    assert 60 < models.count("rides:2") < 140
    assert [item["score"] for item in first] == [item["score"] for item in again]
    answers = world.ask(1500)
    world.label(answers, lambda item: int(world.draw.random() < item["score"]))
    assert world.judge().step == 1
    assert world.state.share == 1.0
    assert {item["model"] for item in world.ask(20)} == {"rides:2"}
    world.label(world.ask(40), lambda item: 0)
    assert world.judge().status == "promoted"
    held = world.registry.alias("rides", "champion")
    assert held is not None
    assert held.version == 2
    assert world.registry.verify_ledger("rides") == []
    reasons = [row.reason for row in rollouts.rows_of(world.registry, world.state)]
    assert len(reasons) == 3
    assert "on to 100.00%" in reasons[1]


@pytest.mark.parametrize("world", [spec(0.5, 1.0, loss="absolute_error")], indirect=True)
def test_a_worse_challenger_is_rolled_back_at_once(world: World) -> None:
    answers = world.ask(2000)
    world.label(
        answers, lambda item: int(item["score"] > 0.5) if item["model"] == "rides:1" else int(item["score"] <= 0.5)
    )
    assert world.judge().status == "rolled_back"
    assert world.state.reason.startswith("breach")
    assert {item["model"] for item in world.ask(50)} == {"rides:1"}
    held = world.registry.alias("rides", "champion")
    assert held is not None
    assert held.version == 1
    assert world.registry.verify_ledger("rides") == []


@pytest.mark.parametrize("world", [spec(0.0, on_success="hold")], indirect=True)
def test_a_shadow_answers_nobody_and_is_compared_pair_by_pair(world: World) -> None:
    answers = world.ask(200)
    assert {item["model"] for item in answers} == {"rides:1"}
    world.label(answers, lambda item: int(world.draw.random() < item["score"]))
    found = world.judge()
    assert found.status == "held"
    assert "ready to be promoted" in found.reason
    assert found.evidence["difference"]["n"] == 200


@pytest.mark.parametrize("world", [spec(0.5)], indirect=True)
def test_people_pause_resume_and_abort_and_a_stale_decision_loses(world: World) -> None:
    before = world.state
    rollouts.change(world.registry, before, rollouts.Decision("paused", "ann", "lunch"))
    world.follow()
    assert {item["model"] for item in world.ask(50)} == {"rides:1"}
    with pytest.raises(ConflictError, match="went on meanwhile"):
        rollouts.change(world.registry, before, rollouts.Decision("running", "bob", "late"))
    rollouts.change(world.registry, world.state, rollouts.Decision("running", "ann", "back"))
    world.follow()
    assert {item["model"] for item in world.ask(50)} == {"rides:1", "rides:2"}
    rollouts.change(world.registry, world.state, rollouts.Decision("aborted", "ann", "no"))
    with pytest.raises(ConflictError, match="aborted"):
        rollouts.require(world.registry, "rides", "running")


@pytest.mark.parametrize("world", [spec(0.5)], indirect=True)
def test_another_champion_ends_the_rollout(world: World) -> None:
    world.registry.move_alias("rides", "champion", Versions(1, 2), Why("t", "r"), action="promote")
    assert world.judge().status == "aborted"
