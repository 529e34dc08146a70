"""One backtest: choose moments, execute the plan, put the outcome together, write it down with its picture.

Enters: a declaration and what was asked. Leaves: `runs/backtest/<pipeline>/backtest.json` and `report.html`, the same bytes
whenever the same is asked of the same history, and a `BacktestReport`. Called by `engine backtest`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from engine.api import Declared, Planned, declare, plan
from engine.backtest.moments import Asked, Moments, choose_moments
from engine.backtest.planning import BACKTEST_BODIES, MEASURE, SPAN, Wanted, first_plan, gates_of, whole_plan
from engine.backtest.policies import ALWAYS, Policy, choose_policies, default_names
from engine.backtest.splitting import words_of
from engine.backtest_records import (
    BacktestDecision,
    BacktestNodes,
    BacktestPeriod,
    BacktestReport,
    BacktestResult,
    Estimate,
    PolicyOutcome,
)
from engine.clock import isoformat, stopwatch
from engine.contracts import Place
from engine.errors import EngineError, ExitCode, UsageError
from engine.evaluation.names import METRIC_NAMES, choose_metrics
from engine.execute.request import ExecuteRequest, Observer
from engine.execute.run import execute
from engine.plan.model import ExecutionPlan
from engine.project import Project
from engine.records import NodeResult
from engine.running import place_of
from engine.spec import PipelineSpec, identity

_DONE = frozenset({"ran", "cached"})


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: the time, the policies by name and those stated, the metric, which gates decide, how many workers."""

    time: Asked = field(default_factory=Asked)
    policies: tuple[str, ...] = ()
    stated: Mapping[str, Any] = field(default_factory=dict)
    metric: str | None = None
    gates: str = "scores"
    workers: int | None = None
    folder: Path | None = None


def declare_backtest(project: Project, overrides: Sequence[str]) -> Declared:
    """Declare the pipeline as the runs that its loop launches: with the overrides of `retrain`; the command line's win."""
    declared = declare(project, overrides)
    own = declared.spec.retrain.overrides
    return declare(project, [*own, *overrides]) if own else declared


def backtest(declared: Declared, question: Question, observer: Observer) -> BacktestReport:
    """Run a backtest; raises what keeps it from being asked, and gives a report for what fails while it runs."""
    watch, spec = stopwatch(), declared.spec
    metric = _check_metric(spec, question.metric)
    policies = choose_policies(spec, question.policies or default_names(spec), question.stated, declared.catalogue)
    run = _Run(plan(declared), question, observer)
    run.execute(first_plan(run.planned))
    if not run.failed:
        span = run.read(SPAN, "span.json")
        first, last = (datetime.fromisoformat(span[name]) for name in ("first", "last"))
        wanted = Wanted(choose_moments(first, last, question.time), policies, metric, question.gates)
        run.execute(whole_plan(run.planned, wanted))
    if run.failed:
        return _failed(run, stopwatch() - watch)
    result = _result(run, wanted)
    folder = question.folder or run.planned.stores.runs_root / "backtest" / spec.name
    report = write_result(result, folder)
    return BacktestReport(
        status="succeeded",
        result=result,
        nodes=run.nodes,
        seconds=stopwatch() - watch,
        folder=str(folder),
        report=str(report),
    )


def write_result(result: BacktestResult, folder: Path) -> Path:
    """Write the result and its page; gives the page."""
    from engine.report.backtest import render_backtest  # noqa: PLC0415 - start-up time

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "backtest.json").write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    report = folder / "report.html"
    report.write_text(render_backtest(result), encoding="utf-8")
    return report


@dataclass
class _Run:
    """The executions of one backtest, and what came of every node."""

    planned: Planned
    question: Question
    observer: Observer
    results: dict[str, NodeResult] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)

    def execute(self, nodes: ExecutionPlan) -> None:
        """Execute a plan; what is cached is not run again."""
        settings = self.planned.declared.settings
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = self.question.workers or max(settings.execute.workers, cores)
        first = len(nodes.nodes) < 10  # the whole machine computes features
        request = ExecuteRequest(
            bodies=BACKTEST_BODIES,
            address=settings.dask.address,
            workers=1 if first else workers,
            threads=settings.execute.threads or (cores if first else max(1, cores // workers)),
        )
        place: Place = place_of(self.planned, "backtest")
        for result in execute(nodes, request, place, self.planned.stores.artefacts, self.observer):
            self.results[result.name] = result
            if result.state == "ran":
                self.ran.add(result.name)

    @property
    def failed(self) -> bool:
        """Say whether some node did not end well."""
        return any(result.state not in _DONE for result in self.results.values())

    @property
    def nodes(self) -> BacktestNodes:
        """Count nodes."""
        states = [result.state for result in self.results.values()]
        broken = states.count("failed")
        skipped = sum(state not in {*_DONE, "failed"} for state in states)
        return BacktestNodes(
            ran=len(self.ran), cached=len(states) - len(self.ran) - broken - skipped, failed=broken, skipped=skipped
        )

    def read(self, name: str, document: str) -> Any:
        """Read a document that a node left."""
        output = self.results[name].output
        if output is None:
            raise EngineError(f"`{name}` left nothing")
        return json.loads(self.planned.stores.artefacts.read(output.digest, document))

    def note(self, name: str, key: str) -> float:
        """Give a number among a node's notes, 0 where the node is not there."""
        result = self.results.get(name)
        value = result.output.notes.get(key, 0) if result is not None and result.output is not None else 0
        return float(value)


def _failed(run: _Run, seconds: float) -> BacktestReport:
    broken = [result for result in run.results.values() if result.state == "failed"]
    words = "\n".join(dict.fromkeys(f"{result.name}: {result.error}" for result in broken[:5]))
    code = max((result.exit_code for result in broken), default=int(ExitCode.INTERRUPTED))
    status = "failed" if broken else "interrupted"
    return BacktestReport(status=status, nodes=run.nodes, seconds=seconds, error=words or "interrupted", exit_code=code)


def _check_metric(spec: PipelineSpec, asked: str | None) -> str:
    names, primary = choose_metrics(spec.train.task, spec.evaluate)
    if asked is None:
        return primary
    known = METRIC_NAMES.get(asked)
    if known is None or spec.train.task not in known.tasks:
        raise UsageError(
            f"--metric {asked}: not a metric of the task {spec.train.task}", hint=f"as in {', '.join(names)}"
        )
    return asked


def _result(run: _Run, wanted: Wanted) -> BacktestResult:
    spec, measured = run.planned.declared.spec, run.read(MEASURE, "measured.json")
    moments = wanted.moments
    costs = {policy.name: _Cost.of(run, policy, moments) for policy in wanted.policies}
    whole = costs[ALWAYS].cpu_seconds
    replayed, left_out = gates_of(spec, wanted.gates)
    outcomes = tuple(_outcome(policy, costs[policy.name], measured, (moments, whole)) for policy in wanted.policies)
    return BacktestResult(
        pipeline=spec.name,
        start=isoformat(moments.at[0]),
        end=isoformat(moments.end),
        every=run.question.time.every,
        metric=measured["metric"],
        higher_is_better=METRIC_NAMES[measured["metric"]].higher_is_better,
        level=spec.evaluate.level,
        rows=sum(measured["rows"]),
        policies=outcomes,
        recommended=recommend(outcomes),
        gates_replayed=replayed,
        gates_left_out=left_out,
        notes=(*_notes(spec, wanted), *_findings(wanted, outcomes)),
    )


def recommend(outcomes: Sequence[PolicyOutcome]) -> str | None:
    """Name the cheapest policy whose regret cannot be told from none; of equal cost the one with less regret."""
    fair = [item for item in outcomes if item.regret.low is not None and item.regret.low <= 0]
    ranked = sorted(fair, key=lambda item: (item.cpu_seconds, item.regret.value or 0.0))
    return ranked[0].name if ranked else None


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a policy's retrainings cost, and what it decided."""

    decisions: tuple[BacktestDecision, ...]
    served: Sequence[int]
    rows: int
    cpu_seconds: float

    @classmethod
    def of(cls, run: _Run, policy: Policy, moments: Moments) -> _Cost:
        document = run.read(f"replay.{policy.name}", "replay.json")
        decisions = tuple(msgspec.convert(item, BacktestDecision) for item in document["decisions"])
        names = [moments.names[index] for index, item in enumerate(decisions) if item.trained is not None]
        seconds = sum(run.note(f"{kind}@{name}", "cpu_seconds") for kind in ("train", "baseline") for name in names)
        rows = sum(int(run.note(f"train@{name}", "rows")) for name in names)
        return cls(decisions, document["models"], rows, seconds)


def _outcome(policy: Policy, cost: _Cost, measured: Mapping[str, Any], beside: tuple[Moments, float]) -> PolicyOutcome:
    moments, whole = beside
    found, rows = measured["policies"][policy.name], measured["rows"]
    trained = [item for item in cost.decisions if item.trained is not None]
    promotions = sum(item.promoted for item in trained)
    launches = sum(item.action in {"launch", "replace"} for item in cost.decisions)
    return PolicyOutcome(
        name=policy.name,
        triggers=policy.shown,
        quality=msgspec.convert(found["quality"], Estimate),
        regret=msgspec.convert(found["regret"], Estimate),
        retrainings=len(trained),
        promotions=promotions,
        refused=len(trained) - promotions,
        diagnoses=launches - len(trained),
        rows_trained=cost.rows,
        cpu_seconds=cost.cpu_seconds,
        cpu_share=cost.cpu_seconds / whole if whole else None,
        decisions=cost.decisions,
        periods=tuple(
            BacktestPeriod(
                start=isoformat(moments.at[index]),
                end=isoformat(moments.end_of(index)),
                rows=rows[index],
                model=moments.names[cost.served[index]],
                quality=msgspec.convert(item["quality"], Estimate),
                regret=msgspec.convert(item["regret"], Estimate),
            )
            for index, item in enumerate(found["periods"])
        ),
    )


def _notes(spec: PipelineSpec, wanted: Wanted) -> list[str]:
    """Say what a reader has to know: how the split moved, and what of the loop was not replayed."""
    notes = ["every policy begins with the model of the first moment, which no gate judged and no cost counts"]
    moved = words_of(identity(spec.split.params))
    notes += [moved] if moved else []
    if spec.rollout is not None:
        notes.append("the rollout is not replayed: a challenger that wins its gates is in production at once")
    if spec.retrain.guard is not None:
        notes.append("the guard that takes a bad promotion back is not replayed")
    if spec.registry.promote == "manual":
        notes.append("a person promotes in production; here every challenger that wins its gates is promoted")
    if wanted.gates == "none":
        notes.append("no gate was asked: every challenger is promoted")
    return notes


def _findings(wanted: Wanted, outcomes: Sequence[PolicyOutcome]) -> list[str]:
    """Say what makes a comparison empty: gates that let nobody pass, triggers that nothing answers."""
    always = next(item for item in outcomes if item.name == ALWAYS)
    found = []
    if always.retrainings and not always.promotions:
        gates = Counter(name for item in always.decisions for name in item.failed_gates)
        named = ", ".join(f"{name} ({count} times)" for name, count in gates.most_common(3))
        found.append(f"no challenger of `{ALWAYS}` passed its gates, so no policy could differ from `never`: {named}")
    for policy in wanted.policies:
        if policy.reads and not policy.monitors:
            words = (
                f"`{policy.name}`: no monitor reads what its triggers look at, so they never fire; declare `monitors`"
            )
            found.append(words)
    return found
