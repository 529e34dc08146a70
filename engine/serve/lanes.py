"""From a registered version to a lane that answers: package, state, log. Called at start and by takeovers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.clock import Clock, to_microseconds
from engine.contracts import ArtefactStore
from engine.features.steps import FeatureProgram
from engine.modelling import ServingPredictor
from engine.online_contracts import OnlineState
from engine.records import ModelVersion
from engine.serve.metrics import Metrics
from engine.serve.openapi import example_row
from engine.serve.package import Served, open_served
from engine.serve.prediction_log import PredictionLog, decode_predictions
from engine.serve.scorer import Scorer
from engine.serve.sealing import Sealer
from engine.serve.segments import SegmentLimits
from engine.serve.service import Lane
from engine.serve.states import Door, EventJournal

OpenState = Callable[[FeatureProgram], OnlineState]
"""Opens the online state of a program; raises `EngineError` when it was never filled."""
_WARM_ROUNDS = 5


@dataclass(frozen=True)
class LaneMaker:
    """What every lane of a server shares."""

    store: ArtefactStore
    root: Path
    open_state: OpenState
    journal: EventJournal
    predictions: Path
    limits: SegmentLimits
    metrics: Metrics
    clock: Clock

    def open(self, version: ModelVersion, arm: str = "champion") -> Lane:
        """Load, check, catch the state up, and score a row, so that the first caller waits for nothing."""
        served = open_served(self.store, version, self.root)
        if isinstance(served.model.predictor, ServingPredictor):
            served.model.predictor.prepare()
        state = self.open_state(served.program)
        door = Door(served, state)
        door.catch_up(self.journal, to_microseconds(self.clock.now()))
        scorer = Scorer(served, state, lambda stage, seconds: self.metrics.stages[stage].observe(seconds))
        warm(served, Scorer(served, state), to_microseconds(self.clock.now()))
        log = PredictionLog(self.predictions, served, self.limits, Sealer(decode_predictions))
        info = (version.name, version.version, version.digest[:12], served.program.digest[:12], arm)
        self.metrics.model.labels(*info).set(1)
        return Lane(scorer, log, door, arm)

    def close(self, lane: Lane) -> None:
        """Let go of a lane that answers no more; its state stays open, since the store is shared."""
        lane.log.writer.close()
        version = lane.served.version
        self.metrics.model.remove(
            version.name, str(version.version), version.digest[:12], lane.served.program.digest[:12], lane.arm
        )


def warm(served: Served, scorer: Scorer, now: int) -> None:
    """Score an example of every shape of batch: imports, compilation and caches happen here."""
    row = {name: None if isinstance(value, str) else value for name, value in example_row(served).items()}
    for count in (1, 2, 16):
        rows = served.schema.read_rows([row] * count, now)
        for _ in range(_WARM_ROUNDS):
            scorer.score(rows)
