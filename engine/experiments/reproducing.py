"""Doing a run again: its recorded plan, its snapshots by commit, with the code that is here or that it recorded.

Enters: a finished run. Leaves: a `Reproduction`: identical at every node, or the first node that differs and why. Nothing
is looked up: the run is done in a workspace with an empty artefact store, and the project's snapshots are only read. A run
of another clone, whose commits this store does not have, reads its sources anew: same content, same digests. Called by
`engine runs reproduce`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.clock import stopwatch
from engine.components import Catalogue, Role, load_catalogue
from engine.contracts import Place
from engine.errors import EngineError, ExitCode, NotFoundError, UsageError
from engine.execute.request import ExecuteRequest, Observer
from engine.execute.run import execute
from engine.experiment_records import NodeMatch, Reproduction, ValueChange
from engine.experiments.differences import Looked
from engine.keys import canonical_json
from engine.locations import Stores
from engine.nodes import BODIES
from engine.plan.code import MEASURED, MEASURING, code_of
from engine.plan.logical import LogicalNode
from engine.plan.model import ExecutionPlan, PlanNode, action_key
from engine.provenance import read_environment
from engine.records import NodeResult
from engine.stores.artefacts import LocalArtefactStore

THEN = "measured then, and taken from the record"
_ROLES: Mapping[str, Role] = {"source": "source", "trainer": "trainer", "splitter": "splitter", "gate": "gate"}


@dataclass(frozen=True, slots=True)
class ReproduceRequest:
    """How to do it again: where plugins and relative paths are (`root`), which plugins, threads, and who listens."""

    root: Path
    plugins: tuple[str, ...]
    threads: int | None
    observer: Observer


def reproduce(stores: Stores, looked: Looked, request: ReproduceRequest, workspace: Path) -> Reproduction:
    """Do a run again and compare node by node; raises `NotFoundError` or `UsageError` for a run that cannot be repeated."""
    watch = stopwatch()
    recorded = {node.name: node for node in looked.record.nodes if node.output is not None}
    plan = _repeatable(looked, recorded)
    has_commits = _has_commits(stores, looked)
    snapshots = stores.snapshots_url if has_commits else str(workspace / "snapshots")
    nodes = tuple(
        _again(node, recorded, checkout=has_commits) for node in plan.nodes if node.name in recorded and not node.effect
    )
    store = LocalArtefactStore(workspace / "artefacts")
    _bring_champion(stores, store, nodes)
    _bring_measured(stores, store, nodes, recorded)
    threads = request.threads or os.cpu_count() or 1
    place = Place(request.root, snapshots, str(store.root), request.plugins, threads, f"again-{looked.record.run_id}")
    asked = ExecuteRequest(bodies=BODIES, threads=threads)
    results = execute(ExecutionPlan(pipeline=plan.pipeline, nodes=nodes), asked, place, store, request.observer)
    matches = tuple(_match(recorded[result.name], result) for result in results)
    first = next((match for match in matches if not match.same), None)
    catalogue = load_catalogue(request.root, request.plugins)
    return Reproduction(
        run_id=looked.record.run_id,
        pipeline=looked.record.pipeline,
        identical=first is None,
        nodes=matches,
        first_difference=first.name if first else None,
        reasons=_reasons(plan.node(first.name), first, recorded, catalogue) if first else (),
        environment=environment_changes(looked),
        seconds=stopwatch() - watch,
        threads=threads,
        workspace=str(workspace),
        exit_code=int(ExitCode.OK if first is None else ExitCode.INTEGRITY),
    )


def environment_changes(looked: Looked) -> tuple[ValueChange, ...]:
    """Give the packages whose versions are not the recorded ones."""
    held = looked.record.environment
    if held is None:
        return ()
    then, now = held.packages, read_environment().packages
    return tuple(
        ValueChange(name=name, left=then.get(name), right=now.get(name))
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    )


def remove(workspace: Path) -> None:
    """Delete a workspace; the store's files are read-only."""

    def writable(act: Callable[..., Any], path: str, _: Any) -> None:
        Path(path).parent.chmod(0o755)
        Path(path).chmod(0o755)
        act(path)

    shutil.rmtree(workspace, onerror=writable)


def _repeatable(looked: Looked, recorded: Mapping[str, NodeResult]) -> ExecutionPlan:
    run = looked.record.run_id
    if looked.gone or looked.plan is None:
        raise NotFoundError(
            f"run {run}: its folder is gone, and with it the plan that would be repeated",
            hint="restore runs/ from a backup; `engine runs diff` still compares what the index knows",
        )
    if not recorded:
        raise UsageError(f"run {run} {looked.record.status} before any node had a result: nothing can be repeated")
    return looked.plan


def _has_commits(stores: Stores, looked: Looked) -> bool:
    """Say whether the snapshot store still has every commit that the run read."""
    try:
        snapshots = stores.open_snapshots()
        return all(snapshots.resolve(pin.repository, pin.commit) == pin.commit for pin in looked.record.snapshots)
    except EngineError:
        return False


def _again(node: PlanNode, recorded: Mapping[str, NodeResult], *, checkout: bool) -> PlanNode:
    """Give a node as it is done again: a source by the commit that its ingest left."""
    output = recorded[node.name].output
    if node.kind == "ingest" and checkout and output is not None:
        settings = {**node.settings, "pin": {"commit": output.notes["commit"]}}
        return msgspec.structs.replace(node, kind="checkout", settings=settings, uncacheable=None)
    return node


def _bring_champion(stores: Stores, store: LocalArtefactStore, nodes: tuple[PlanNode, ...]) -> None:
    """Copy the champion that the run was compared with into the workspace, if it is still there."""
    named = {node.settings.get("champion") for node in nodes} | {
        item.value for node in nodes for item in node.alternatives if item.setting == "champion"
    }
    for digest in sorted(name for name in named if isinstance(name, str)):
        if stores.artefacts.exists(digest):
            _copy(stores, store, digest)


def _bring_measured(
    stores: Stores, store: LocalArtefactStore, nodes: tuple[PlanNode, ...], recorded: Mapping[str, NodeResult]
) -> None:
    """Put what was measured then (times of a machine) where its node finds it, if what it measured comes out the same."""
    for node in nodes:
        before = recorded[node.name]
        if node.kind not in MEASURING or before.key is None or before.output is None:
            continue
        if stores.artefacts.exists(before.output.digest):
            _copy(stores, store, before.output.digest)
        else:
            staged = store.stage()
            (staged / MEASURED).write_bytes(canonical_json(before.output.notes.get(MEASURED)))
            if store.commit(staged) != before.output.digest:
                continue
        store.record_action(before.key, before.output)


def _copy(stores: Stores, store: LocalArtefactStore, digest: str) -> None:
    staged = store.stage()
    shutil.copytree(stores.artefacts.open(digest), staged, dirs_exist_ok=True)
    for path in (staged, *staged.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    store.commit(staged)


def _match(before: NodeResult, again: NodeResult) -> NodeMatch:
    recorded = before.output.digest if before.output else None
    now = again.output.digest if again.output else None
    reason = (again.error or again.reason) if now is None else THEN if again.state == "cached" else ""
    return NodeMatch(name=before.name, recorded=recorded, again=now, same=recorded == now, reason=reason)


def _reasons(
    node: PlanNode, first: NodeMatch, recorded: Mapping[str, NodeResult], catalogue: Catalogue
) -> tuple[str, ...]:
    """Say what of a node's recorded code is not the same now; the nodes before it left the same."""
    if first.reason and first.again is None:
        said = first.reason.splitlines()[0]
        return (_unexplained(node, recorded[node.name]), said) if node.kind == "ingest" else (said,)
    components = tuple(
        (_ROLES[role], name) for role, _, name in (part.partition(":") for part in node.code) if role in _ROLES
    )
    try:
        now = code_of(LogicalNode(node.name, node.kind, components=components), catalogue)
    except EngineError as error:
        return (error.message,)
    changed = tuple(
        f"{part} was {node.code.get(part, 'absent')[:12]} and is {now.get(part, 'absent')[:12]}"
        for part in sorted({*node.code, *now})
        if node.code.get(part) != now.get(part)
    )
    return (*_tampered(node, recorded), *changed) or (_unexplained(node, recorded[node.name]),)


def _tampered(node: PlanNode, recorded: Mapping[str, NodeResult]) -> tuple[str, ...]:
    """Say when the plan in the run's folder is not the one that ran: the key that it gives is another."""
    before = recorded[node.name]
    inputs = {
        role: held.output.digest for role, name in node.inputs.items() if (held := recorded.get(name)) and held.output
    }
    if before.key is None or len(inputs) < len(node.inputs) or action_key(node, inputs) == before.key:
        return ()
    return (
        "its settings are not those that ran: the run's plan.json, or the digests in its run.json, were changed since",
    )


def _unexplained(node: PlanNode, before: NodeResult) -> str:
    if node.kind == "ingest":
        commit = str(before.output.notes.get("commit", ""))[:12] if before.output else ""
        return (
            f"the source has other content now than in commit {commit}, which the run read and this store does not have"
        )
    if node.kind in MEASURING:
        return "it measures the machine, and neither the record nor this store has what was measured then"
    return "its inputs, its settings and its code are as recorded: the node does not always give the same"
