"""What a server does, without HTTP: score requests, take events and labels, tell how it is. Called by `app`.

`Live` is everything that an answer depends on, replaced as a whole when a new version is taken over: a batch looks at it
once. Logs of versions that were replaced are closed when their last batch has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import msgspec
import numpy as np

from engine.clock import Clock, to_microseconds
from engine.errors import EngineError, UnavailableError
from engine.serve.events import Events
from engine.serve.feedback import FeedbackBlock, FeedbackStore
from engine.serve.metrics import Metrics
from engine.serve.package import Served
from engine.serve.prediction_log import Answered, PredictionLog
from engine.serve.schema import Rows, join_rows
from engine.serve.scorer import Scored, Scorer
from engine.serve.states import EventJournal, JournalEntry


class Prediction(msgspec.Struct, frozen=True):
    """One answered row. `logged` rows survive whatever happens to the server; `score` is null when the model gave none.

    `outputs` has every class's probability, or every quantile, of a model that has several.
    """

    prediction_id: str
    score: float | None
    model: str
    logged: bool
    outputs: dict[str, float] | msgspec.UnsetType = msgspec.UNSET


class StateDoor(Protocol):
    """The writing side of a state: what `POST /events` pushes into."""

    def push_events(self, events: Events) -> Mapping[str, int]:
        """Add events durably; gives counts by outcome."""
        ...

    def mark(self) -> str:
        """Say in canonical JSON how far the state is, by source; cheap, may be some seconds old."""
        ...


@dataclass(frozen=True)
class Lane:
    """One model being served, with its log and the door of its state."""

    scorer: Scorer
    log: PredictionLog
    door: StateDoor
    arm: str = "champion"

    @property
    def served(self) -> Served:
        """The model."""
        return self.scorer.served


class Router(Protocol):
    """Which lane answers which row, and what happens beside the answer (see `rollout`)."""

    def assign(self, rows: Rows) -> Sequence[int] | None:
        """Give the lane of each row by its place in `Live.lanes`; `None` when all go to the champion."""
        ...

    def observe(self, rows: Rows) -> None:
        """Hear of what was answered; never slow, never raises."""
        ...


@dataclass(frozen=True)
class Live:
    """What answers depend on at one moment."""

    champion: Lane
    others: tuple[Lane, ...] = ()
    router: Router | None = None

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Every lane, the champion's first."""
        return (self.champion, *self.others)


@dataclass
class Service:
    """The state of a serving process; `live` is only ever replaced whole."""

    live: Live
    feedback: FeedbackStore
    journal: EventJournal
    metrics: Metrics
    clock: Clock
    draining: bool = False
    notes: dict[str, str] = field(default_factory=dict)

    def now(self) -> int:
        """The present moment in microseconds."""
        return to_microseconds(self.clock.now())

    def score(self, requests: list[Rows]) -> list[list[Prediction] | BaseException]:
        """Answer requests that arrived together; one that cannot be scored does not take the others with it."""
        live = self.live
        try:
            return list(self._score(live, requests))
        except (EngineError, ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
            if len(requests) == 1:
                self.metrics.failures.inc()
                return [error]
            answers: list[list[Prediction] | BaseException] = []
            for request in requests:
                answers += self.score([request])
            return answers

    def _score(self, live: Live, requests: list[Rows]) -> list[list[Prediction]]:
        rows = join_rows(requests)
        self.metrics.batch_rows.observe(rows.count)
        lanes = live.router.assign(rows) if live.router is not None else None
        made = self._answer(live.champion, rows) if lanes is None else self._answer_apart(live, rows, lanes)
        if live.router is not None:
            live.router.observe(rows)
        answers, start = [], 0
        for request in requests:
            answers.append(made[start : start + request.count])
            start += request.count
        return answers

    def _answer(self, lane: Lane, rows: Rows) -> list[Prediction]:
        began = perf_counter()
        scored = lane.scorer.score(rows)
        logged = self._log(lane, rows, scored, round((perf_counter() - began) * 1e6))
        label = lane.served.label
        version = lane.served.version
        self.metrics.predictions.labels(version.name, version.version, lane.arm).inc(rows.count)
        finite = np.isfinite(scored.scores)
        if not finite.all():
            self.metrics.no_score.inc(int((~finite).sum()))
        scores = [
            score if is_number else None
            for score, is_number in zip(scored.scores.tolist(), finite.tolist(), strict=True)
        ]
        if scored.outputs is None:
            return [Prediction(name, score, label, logged) for name, score in zip(rows.ids, scores, strict=True)]
        names = lane.served.model.target.outputs
        return [
            Prediction(name, score, label, logged, dict(zip(names, outputs, strict=True)))
            for name, score, outputs in zip(rows.ids, scores, scored.outputs.tolist(), strict=True)
        ]

    def _answer_apart(self, live: Live, rows: Rows, lanes: Sequence[int]) -> list[Prediction]:
        """Score each lane's rows together, and give the answers in the order of the rows."""
        made: list[Any] = [None] * rows.count
        for number, lane in enumerate(live.lanes):
            places = [place for place, chosen in enumerate(lanes) if chosen == number]
            if places:
                for place, item in zip(places, self._answer(lane, pick(rows, places)), strict=True):
                    made[place] = item
        return made

    def _log(self, lane: Lane, rows: Rows, scored: Scored, took: int) -> bool:
        logged = lane.log.append(rows, scored, Answered(self.now(), lane.door.mark(), lane.arm, took))
        (self.metrics.log_rows if logged else self.metrics.log_dropped).inc(rows.count)
        self.metrics.log_unsynced.set(lane.log.writer.unsynced)
        return logged

    def push_events(self, events: Events) -> dict[str, int]:
        """Add events to every lane's state that reads their source; durable in all of them when this returns."""
        counts: dict[str, int] = {}
        self.journal.append(JournalEntry(self.now(), events.source, events.token, events.raw))
        for lane in self.live.lanes:
            if events.source in lane.served.program.feature_sources:
                counts = counts or dict(lane.door.push_events(events))
        for outcome, count in counts.items():
            self.metrics.events.labels(events.source, outcome).inc(count)
        return counts | {"filtered": events.filtered}

    def take_labels(self, block: FeedbackBlock) -> int:
        """Keep labels; on the disk when this returns. Raises `UnavailableError` when they could not be written."""
        if not self.feedback.append(block):
            raise UnavailableError(f"labels cannot be written: {self.feedback.writer.counts.failure}")
        self.feedback.writer.wait_synced()
        self.metrics.labels.inc(len(block.ids))
        return len(block.ids)


def pick(rows: Rows, places: Sequence[int]) -> Rows:
    """Some of the rows, by place."""
    columns = {name: [values[place] for place in places] for name, values in rows.columns.items()}
    return Rows([rows.ids[place] for place in places], [rows.times[place] for place in places], columns)
