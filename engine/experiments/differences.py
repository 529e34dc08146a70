"""What differs between two runs: config by path, data by commit and content, features, code, environment, results, times.

Enters: two run folders, or what the index kept of a folder that was deleted. Leaves: a `RunDiff`. Reads records, plans and
documents; rows are only read by `paired`, which the caller may leave out. Called by `engine runs diff`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from engine.errors import IntegrityError, NotFoundError
from engine.experiment_records import DataChange, MetricChange, NodeChange, RunDiff, Side, ValueChange
from engine.keys import Json, digest
from engine.locations import Stores
from engine.plan.model import ExecutionPlan
from engine.records import Metric, RunRecord
from engine.runs import RunFolder, flatten
from engine.stores.runs_index import RunSummary

T = TypeVar("T")
Part: TypeAlias = Literal["test", "validation"]
Paired = Callable[["Looked", "Looked", Part, tuple[str, ...]], Mapping[str, MetricChange]]
"""`paired(left, right, part, metrics)` measures both on the same rows; metrics that cannot be are left out."""


@dataclass(frozen=True, slots=True)
class Looked:
    """All that is known of one run."""

    record: RunRecord
    config: Mapping[str, Any]
    plan: ExecutionPlan | None
    gone: bool = False

    @property
    def side(self) -> Side:
        """Who it is."""
        record = self.record
        return Side(
            run_id=record.run_id,
            pipeline=record.pipeline,
            status=record.status,
            started_at=record.started_at,
            overrides=record.overrides,
            folder_gone=self.gone,
        )


def look_at(stores: Stores, run_id: str) -> Looked:
    """Find a run: by its folder, else by the index; raises `NotFoundError` when neither has it."""
    wanted = last_run(stores) if run_id == "last" else run_id
    folder = RunFolder(stores.runs_root / wanted)
    config = stores.index.configs([wanted]).get(wanted, {})
    try:
        record = folder.read_record()
    except NotFoundError:
        return Looked(_remembered(stores.index.find_run(wanted)), config, None, gone=True)
    try:
        plan = folder.read_plan()
    except (NotFoundError, IntegrityError):
        plan = None
    return Looked(record, config or folder.read_config(), plan)


def last_run(stores: Stores) -> str:
    """Give the latest run's id; raises `NotFoundError` when there is none."""
    from engine.stores.runs_index import RunFilter  # noqa: PLC0415

    runs = stores.index.list_runs(RunFilter(limit=1))
    if not runs:
        raise NotFoundError("there is no run yet", hint="engine run pipeline=NAME")
    return runs[0].run_id


def compare_runs(left: Looked, right: Looked, paired: Paired | None, *, everything: bool = False) -> RunDiff:
    """Compare two runs; with `everything`, also what is the same."""
    notes = tuple(
        f"the folder of run {side.record.run_id} is gone: its nodes, data and environment are not known any more"
        for side in (left, right)
        if side.gone
    )
    config = _values(dict(flatten(dict(left.config))), dict(flatten(dict(right.config))), everything=everything)
    metrics = tuple(_metrics(left, right, paired, everything=everything))
    verdict = ValueChange(name="verdict", left=left.record.verdict, right=right.record.verdict)
    nodes = tuple(_nodes(left.record, right.record, everything=everything))
    diff = RunDiff(
        left=left.side,
        right=right.side,
        config=config,
        data=tuple(_data(left.record, right.record, everything=everything)),
        features=_values(_features(left.plan), _features(right.plan), everything=False)
        if left.plan and right.plan
        else (),
        code=_values(_code(left.plan), _code(right.plan), everything=everything) if left.plan and right.plan else (),
        environment=_values(_environment(left.record), _environment(right.record), everything=everything),
        metrics=metrics,
        verdict=verdict if everything or verdict.left != verdict.right else None,
        gates=_values(_gates(left.record), _gates(right.record), everything=everything),
        nodes=nodes,
        notes=notes,
    )
    return _with_identity(diff, left.record, right.record)


def _with_identity(diff: RunDiff, left: RunRecord, right: RunRecord) -> RunDiff:
    from msgspec import structs  # noqa: PLC0415

    outputs = [{node.name: node.output.digest for node in run.nodes if node.output} for run in (left, right)]
    changed = any(change.left != change.right for change in (*diff.config, *diff.code))
    return structs.replace(diff, identical=bool(outputs[0]) and outputs[0] == outputs[1] and not changed)


def _pairs(left: Mapping[str, T], right: Mapping[str, T]) -> Iterator[tuple[str, T | None, T | None]]:
    """Give what both sides have by name, the left side's order first."""
    for name in dict.fromkeys((*left, *right)):
        yield name, left.get(name), right.get(name)


def _values(left: Mapping[str, Any], right: Mapping[str, Any], *, everything: bool) -> tuple[ValueChange, ...]:
    return tuple(
        ValueChange(name=name, left=one, right=other)
        for name, one, other in _pairs(left, right)
        if everything or one != other or (name in left) != (name in right)
    )


def _data(left: RunRecord, right: RunRecord, *, everything: bool) -> Iterator[DataChange]:
    ours, theirs = ({pin.source: pin for pin in run.snapshots} for run in (left, right))
    for source, one, other in _pairs(ours, theirs):
        same = one is not None and other is not None and one.digest == other.digest
        if everything or not same or (one and other and one.commit != other.commit):
            sides = _sides("left", one, ("commit", "digest", "rows")) | _sides(
                "right", other, ("commit", "digest", "rows")
            )
            yield DataChange(source=source, same_content=same, **sides)


def _sides(side: str, of: Any, names: Sequence[str]) -> dict[str, Any]:
    """Give attributes under a side's names; nothing for a side that is missing."""
    return {f"{side}_{name}": getattr(of, name) for name in names} if of is not None else {}


def _features(plan: ExecutionPlan | None) -> dict[str, str]:
    """Digest what computes each feature, so that a change is found wherever it was declared."""
    node = next((node for node in plan.nodes if node.kind == "features"), None) if plan else None
    if node is None:
        return {}
    steps: list[dict[str, Json]] = node.settings["program"]["steps"]
    found: dict[str, list[Json]] = {}
    for step in steps:
        found.setdefault(str(step.get("name")), []).append(step)
    return {name: digest(items)[:12] for name, items in found.items()}


def _code(plan: ExecutionPlan | None) -> dict[str, str]:
    if plan is None:
        return {}
    found = {(part, version): None for node in plan.nodes for part, version in node.code.items() if part != "engine"}
    engine = {f"engine:{node.kind}": node.code["engine"][:12] for node in plan.nodes if "engine" in node.code}
    return {**{part: version[:12] for part, version in found}, **engine}


def _environment(run: RunRecord) -> dict[str, Any]:
    found: dict[str, Any] = {"git.commit": run.git.commit, "git.dirty": run.git.dirty}
    if run.environment is not None:
        held = run.environment
        found |= {"python": held.python, "platform": held.platform, "engine": held.engine, "cpu_count": held.cpu_count}
        found |= held.packages
    return found


def _gates(run: RunRecord) -> dict[str, str]:
    return {gate.name: f"{gate.status} ({gate.observed}; required {gate.required})" for gate in run.gates}


def _metrics(left: Looked, right: Looked, paired: Paired | None, *, everything: bool) -> Iterator[MetricChange]:
    tested = [{metric.name: metric.value for metric in side.record.metrics} for side in (left, right)]
    tuned = [{metric.name: metric.value for metric in side.record.tuned} for side in (left, right)]
    parts: tuple[tuple[Part, list[dict[str, float | None]]], ...] = (("test", tested), ("validation", tuned))
    for part, (ours, theirs) in parts:
        both = tuple(name for name in ours if name in theirs and ours[name] != theirs[name])
        measured = paired(left, right, part, both) if paired is not None and both else {}
        for name in dict.fromkeys((*ours, *theirs)):
            change = measured.get(name) or _plain(name, part, ours.get(name), theirs.get(name))
            if everything or change.left != change.right:
                yield change


def _plain(name: str, part: Part, left: float | None, right: float | None) -> MetricChange:
    gap = right - left if left is not None and right is not None else None
    reason = "only one of them was measured" if gap is None else "" if gap == 0 else "not measured on the same rows"
    return MetricChange(name=name, part=part, left=left, right=right, difference=gap, reason=reason)


def _nodes(left: RunRecord, right: RunRecord, *, everything: bool) -> Iterator[NodeChange]:
    ours, theirs = ({node.name: node for node in run.nodes} for run in (left, right))
    for name, one, other in _pairs(ours, theirs):
        digests = [node.output.digest if node and node.output else None for node in (one, other)]
        same = None if None in digests else digests[0] == digests[1]
        if everything or not same or (one and other and one.state != other.state):
            sides = _sides("left", one, ("state", "seconds")) | _sides("right", other, ("state", "seconds"))
            yield NodeChange(name=name, same_output=same, left_digest=digests[0], right_digest=digests[1], **sides)


def _remembered(summary: RunSummary) -> RunRecord:
    """Give a record of what the index kept."""
    return RunRecord(
        run_id=summary.run_id,
        pipeline=summary.pipeline,
        status=summary.status,
        verdict=summary.verdict,
        started_at=summary.started_at,
        finished_at=summary.finished_at,
        seconds=summary.seconds,
        overrides=tuple(f"{key}={value}" for key, value in summary.params.items()),
        config_digest="0" * 64,
        plan_digest="0" * 64,
        metrics=tuple(Metric(name=name, value=value) for name, value in summary.metrics.items()),
        model=summary.model,
        promoted=summary.promoted,
        error=summary.error,
        exit_code=summary.exit_code,
        sweep=summary.sweep,
        trial=summary.trial,
    )
