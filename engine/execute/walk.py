"""What is settled without running anything: the pass over the plan that a no-op run consists of.

Enters: the plan, what earlier rounds settled, the artefact store. Leaves: results of cached nodes; the rest in order.
Called by `run.execute`; imports nothing that costs start-up time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from engine.contracts import ArtefactStore
from engine.dag import ancestors
from engine.errors import EngineError, UsageError
from engine.execute.request import ExecuteRequest
from engine.plan.model import ExecutionPlan, PlanNode, action_key
from engine.records import NodeResult

SUCCEEDED = frozenset({"ran", "cached"})


@dataclass(frozen=True, slots=True)
class Walked:
    """`settled`: results by node; `todo`: nodes to run, in topological order."""

    settled: Mapping[str, NodeResult]
    todo: tuple[PlanNode, ...]


def walk(
    plan: ExecutionPlan, request: ExecuteRequest, store: ArtefactStore, before: Mapping[str, NodeResult]
) -> Walked:
    """Find what is cached, following content digests downwards; effects are left out.

    `before` holds what this very run settled in an earlier round: it stands as long as the node's key is the same and
    its output is still whole. Raises `UsageError` when a node outside the selection is needed and not cached.
    """
    needed = None if request.selected is None else ancestors(plan.edges, request.selected)
    settled: dict[str, NodeResult] = {}
    todo: list[PlanNode] = []
    for node in plan.nodes:
        if node.effect:
            continue
        if needed is not None and node.name not in needed:
            settled[node.name] = unselected(node)
            continue
        result = _settle(node, request, store, settled, before.get(node.name))
        if result is not None:
            settled[node.name] = result
        elif request.selected is not None and node.name not in request.selected:
            raise _missing(node, request.selected, _explain(node, store, settled))
        else:
            todo.append(node)
    return Walked(settled, tuple(todo))


def look_up(node: PlanNode, key: str, store: ArtefactStore, *, forced: bool) -> NodeResult | None:
    """Give the cached result of an action, its artefact there at its recorded size; `None` when it has to run."""
    if forced or node.uncacheable is not None:
        return None
    output = store.find_action(key)
    return (
        None if output is None else NodeResult(name=node.name, kind=node.kind, state="cached", key=key, output=output)
    )


def replace_result(result: NodeResult, **changes: object) -> NodeResult:
    """Give a result with some fields changed."""
    return msgspec.structs.replace(result, **changes)


def blocked(base: NodeResult, upstream: Mapping[str, NodeResult]) -> NodeResult | None:
    """Say how a node ends whose inputs are not all there; `None` when they are. The first cause is named."""
    for result in upstream.values():
        match result.state:
            case "ran" | "cached":
                continue
            case "failed":
                return replace_result(base, state="skipped", reason=f"`{result.name}` failed")
            case "skipped" | "cancelled" | "pending":
                return replace_result(
                    base, state=result.state, reason=result.reason or f"`{result.name}` was {result.state}"
                )
            case _:
                raise EngineError(f"`{base.name}` was started before its input `{result.name}` had ended")
    return None


def unselected(node: PlanNode) -> NodeResult:
    """Give the result of a node that the selection leaves out."""
    return NodeResult(name=node.name, kind=node.kind, state="skipped", reason="not selected")


def _settle(
    node: PlanNode,
    request: ExecuteRequest,
    store: ArtefactStore,
    settled: Mapping[str, NodeResult],
    before: NodeResult | None,
) -> NodeResult | None:
    digests: dict[str, str] = {}
    for role, name in node.inputs.items():
        result = settled.get(name)
        if result is None or result.output is None:
            return None
        digests[role] = result.output.digest
    key = action_key(node, digests)
    if before is not None and before.key == key and _stands(before, store):
        return before
    outside = request.selected is not None and node.name not in request.selected
    done = before is not None and before.state in SUCCEEDED
    forced = node.name in request.force and not done and not outside
    return look_up(node, key, store, forced=forced)


def _stands(before: NodeResult, store: ArtefactStore) -> bool:
    if before.state == "failed":
        return True
    return before.state in SUCCEEDED and before.output is not None and store.exists(before.output.digest)


def _explain(node: PlanNode, store: ArtefactStore, settled: Mapping[str, NodeResult]) -> str | None:
    """Say why a node has no cached result, where that is known."""
    outputs = {role: settled[name].output for role, name in node.inputs.items() if name in settled}
    digests = {role: output.digest for role, output in outputs.items() if output is not None}
    if node.uncacheable or digests.keys() != node.inputs.keys():
        return node.uncacheable
    miss = store.explain_miss(action_key(node, digests))
    return miss.reason if miss is not None else None


def _missing(node: PlanNode, selected: frozenset[str], reason: str | None) -> UsageError:
    why = f" ({reason})" if reason else ""
    first = ", ".join(sorted(selected)[:3]) + (", ..." if len(selected) > 3 else "")
    return UsageError(
        f"`{node.name}` is needed by the selected nodes ({first}) but is not in the cache{why}",
        hint=f"drop --from or --only, or start with --from {node.name}",
    )
