"""The replay of one policy: at each moment ask its triggers, decide, train, judge, promote; score the rows until the next.

The body of a node. A decision is made by the code that `engine tick` decides with, from what was known at that moment: rows that
lie before it, labels that had come, readings of chunks that had ended. Leaves `replay.json` and `predictions.parquet` (one
prediction a row of the periods, in order of time).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.backtest.history import Models, Periods, read_rows
from engine.backtest.verdicts import Court, Ruling
from engine.backtest.watching import Watch
from engine.backtest_records import BacktestDecision
from engine.clock import isoformat
from engine.components import catalogue_of
from engine.contracts import Work
from engine.durations import microseconds
from engine.errors import DataError
from engine.evaluation.metrics import measure
from engine.keys import Json, digest
from engine.loop.declarations import Declaration, build
from engine.loop.declarations import Declared as LoopDeclared
from engine.loop.gather import Known
from engine.loop.judging import Judged, judge
from engine.loop_contracts import Serving
from engine.loop_records import RunRequest, TriggerMemory, TriggerOpinion
from engine.nodes.frames import read_document, write_document, write_frame


def replay(work: Work) -> Mapping[str, Json]:
    """Replay; raises `DataError` for a period without rows to score."""
    settings: Any = work.settings
    catalogue = catalogue_of(work.place)
    models = Models(work.inputs, catalogue, read_rows(work.inputs["rows"]))
    declared = msgspec.convert(settings["declared"], LoopDeclared)
    declaration = build(settings["pipeline"], declared, Path(work.place.root), catalogue)
    content = read_document(work.inputs["content"].path / "content.json") if "content" in work.inputs else {}
    loop = _Loop(
        declaration,
        Periods.of(settings),
        models,
        Watch(settings, models),
        Court(settings, work.inputs, models),
        content,
    )
    predictions = loop.run(work.progress)
    write_frame(work.out / "predictions.parquet", pl.DataFrame({"prediction": predictions}))
    document = {"decisions": msgspec.to_builtins(loop.decisions), "models": loop.served}
    write_document(work.out / "replay.json", document)
    return {"trainings": sum(item.trained is not None for item in loop.decisions), "decisions": len(loop.decisions)}


@dataclass
class _Loop:
    """The state of a pipeline as the simulated clock goes on. `served[k]` is the moment whose model scored period k."""

    declaration: Declaration
    periods: Periods
    models: Models
    watch: Watch
    court: Court
    content: Mapping[str, Sequence[int]]
    memory: TriggerMemory = field(init=False)
    serving: Serving = field(init=False)
    in_production: int = 0
    requests: list[RunRequest] = field(default_factory=list)
    decisions: list[BacktestDecision] = field(default_factory=list)
    served: list[int] = field(default_factory=list)

    def run(self, progress: Callable[[str, int | None, float | None], None]) -> np.ndarray:
        """Go through all moments; gives the predictions of all periods, one after the other."""
        self.memory = TriggerMemory(pipeline=self.declaration.pipeline)
        self._promote(0, 1)
        places = self.periods.places(self.models.rows)
        scored = []
        for index in range(len(self.periods.moments)):
            self._evaluate(index)
            self.served.append(self.in_production)
            low, high = int(places[index]), int(places[index + 1])
            if high > low:
                scored.append(self.models.scores(self.in_production, low, high))
            progress(isoformat(self.periods.moments[index])[:10], high - low, (index + 1) / len(self.periods.moments))
        if not scored:
            raise DataError("no period has a row to score", hint="choose --from and --to within the history")
        return np.concatenate(scored)

    def _promote(self, index: int, version: int) -> None:
        """Put the model of a moment into production."""
        moment, cut = self.periods.moments[index], self.models.cut(index)
        newest = cut["trained_until"]
        trained_until = datetime.fromisoformat(newest) if newest else None
        self.serving = Serving(version, moment, trained_until, int(cut["known"]) or None, self._reached(index))
        self.in_production = index
        self.watch.serve(index, moment)

    def _reached(self, index: int) -> dict[str, float | None]:
        """Measure on a model's own test rows what a trigger holds it to; a run records that with the model."""
        params: list[Any] = [spec.params for spec in self.declaration.specs.values()]
        wanted = {item.metric for item in params if getattr(item, "drop", None) is not None}
        rows = self.models.part(index, ("test",)) if wanted else self.models.rows[:0]
        if not rows.height:
            return {}
        y, predicted = self.models.labels(index, rows), self.models.model(index).score(rows)
        return {name: measure(name, y, predicted) for name in sorted(wanted)}

    def _evaluate(self, index: int) -> None:
        """Evaluate the triggers once, as a tick at this moment would, and do what was decided."""
        moment = self.periods.moments[index]
        if not self.declaration.triggers:
            self.decisions.append(BacktestDecision(at=isoformat(moment), action="nothing", why="there are no triggers"))
            return
        known = Known(
            self.declaration, self.memory, [*self._recent(moment), *self._look(index)], moment, self.watch.read(moment), self.serving
        )  # fmt: skip
        judged = judge(known, lambda: isoformat(moment))
        self.memory = judged.memory
        decision = judged.decision
        record = BacktestDecision(
            at=isoformat(moment),
            action=decision.action,
            why=decision.why,
            opinions=tuple(
                TriggerOpinion(trigger=name, fired=item.fired, why=item.why) for name, item in judged.opinions.items()
            ),
            checks=decision.checks,
        )
        launched = decision.launched
        if launched is not None and launched.intent == "train":
            record = self._train(index, judged, record)
        elif launched is not None:
            self._remember(judged, isoformat(moment), "diagnose", None)
        self.decisions.append(record)

    def _train(self, index: int, judged: Judged, record: BacktestDecision) -> BacktestDecision:
        """Train on what is known, put the challenger before the gates, and promote it if they say so."""
        if not self.models.has(index, "train"):
            raise DataError(f"there is no model of {record.at[:10]}, and the policy wants one")
        ruling = self.court.rule(index, self.in_production)
        self._remember(judged, record.at, "train", ruling)
        promoted = ruling.verdict == "promote"
        if promoted:
            self._promote(index, self.serving.version + 1)
        return msgspec.structs.replace(
            record,
            trained=record.at,
            verdict=ruling.verdict,
            promoted=promoted,
            gates={result.name: result.status for result in ruling.results},
            failed_gates={result.name: result.reason for result in ruling.results if result.status != "pass"},
        )

    def _remember(self, judged: Judged, at: str, kind: str, ruling: Ruling | None) -> None:
        """Keep the run as the loop would: it takes no simulated time."""
        launched = judged.decision.launched
        self.requests.append(RunRequest(
            key=judged.decision.key or "", pipeline=self.declaration.pipeline,
            kind="diagnose" if kind == "diagnose" else "train", reasons=dict(launched.reasons) if launched else {},
            created_at=at, state="done", verdict=ruling.verdict if ruling else None, exit_code=0, subject=judged.subject, ended_at=at,
        ))  # fmt: skip

    def _recent(self, now: datetime) -> list[RunRequest]:
        """Give the runs that a tick would look at: those of the budget's period, and the last one."""
        period = timedelta(microseconds=microseconds(self.declaration.declared.retrain.budget.per))
        since = isoformat(now - period)
        return [item for item in self.requests[:-1] if item.created_at >= since] + self.requests[-1:]

    def _look(self, index: int) -> list[RunRequest]:
        """Give the observation that a tick would have made: what each source held, and how many labels were known."""
        at = isoformat(self.periods.moments[index])
        held = {name: digest([name, counts[index]]) for name, counts in self.content.items()}
        labels = int(self.models.cut(index)["known"]) if self.models.has(index, "cut") else None
        return [RunRequest(
            key=at, pipeline=self.declaration.pipeline, kind="observe", reasons={}, created_at=at, state="done",
            content=held or {"rows": digest(labels)}, labels=labels, ended_at=at,
        )]  # fmt: skip
