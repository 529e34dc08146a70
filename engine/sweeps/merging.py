"""Many plans as one DAG: nodes that would do the very same from the very same are one node.

Enters: each trial's plan and which of its nodes are wanted. Leaves: one `ExecutionPlan`, and for each trial the names its
nodes have there. Pure. Two nodes are one when everything that decides their result is equal and their inputs are one, so
what is shared is decided before anything runs; the cache then finds what only turns out equal by content.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec

from engine.plan.model import ExecutionPlan, PlanNode

SEPARATOR = "#"


@dataclass(frozen=True, slots=True)
class Merged:
    """One plan for all. `names[trial][own]` is a node's name in it; `users[name]` are its trials, the first one owns it."""

    plan: ExecutionPlan
    names: Mapping[int, Mapping[str, str]]
    users: Mapping[str, tuple[int, ...]]

    def own_name(self, trial: int, name: str) -> str:
        """Give back the name that a merged node has in a trial's own plan."""
        return next(own for own, merged in self.names[trial].items() if merged == name)

    @property
    def wide(self) -> frozenset[str]:
        """Nodes that nothing can run beside with profit: what all trials wait for."""
        trials = len(self.names)
        return (
            frozenset(name for name, users in self.users.items() if len(users) == trials) if trials > 1 else frozenset()
        )


def merge(plans: Mapping[int, ExecutionPlan], kinds: Collection[str]) -> Merged:
    """Merge the nodes of these kinds; a node that differs between trials gets the number of its first one."""
    found: list[PlanNode] = []
    same: dict[tuple[str, tuple[tuple[str, str], ...]], list[PlanNode]] = {}
    names: dict[int, dict[str, str]] = {}
    users: dict[str, list[int]] = {}
    for number, plan in plans.items():
        own = names.setdefault(number, {})
        for node in plan.nodes:
            if node.kind not in kinds or node.effect:
                continue
            inputs = {role: own[name] for role, name in node.inputs.items()}
            bucket = same.setdefault((node.name, tuple(sorted(inputs.items()))), [])
            match = next((known for known in bucket if _alike(known, node)), None)
            if match is None:
                name = node.name if node.name not in users else f"{node.name}{SEPARATOR}{number}"
                match = msgspec.structs.replace(node, name=name, inputs=inputs)
                bucket.append(match)
                found.append(match)
            own[node.name] = match.name
            users.setdefault(match.name, []).append(number)
    pipelines = "+".join(dict.fromkeys(plan.pipeline for plan in plans.values()))
    plan = ExecutionPlan(pipeline=pipelines, nodes=tuple(found))
    return Merged(plan, names, {name: tuple(numbers) for name, numbers in users.items()})


def _alike(known: PlanNode, node: PlanNode) -> bool:
    """Say whether two nodes with the same inputs have the same result; how long they may take plays no part."""
    return (
        known.kind == node.kind
        and known.settings == node.settings
        and known.code == node.code
        and known.alternatives == node.alternatives
        and known.uncacheable == node.uncacheable
    )
