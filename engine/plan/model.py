"""A compiled plan as data: nodes with what decides their results, and how a node's key is made.

`compile` makes it, `explain` and `execute` interpret it, `plan.json` stores it. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.dag import Edges
from engine.keys import KEY_SCHEME, digest


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """When the input with this `role` has this content `digest`, `setting` is `value` instead of what it says."""

    role: str
    digest: str
    setting: str
    value: Any


class PlanNode(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of the DAG.

    `inputs` maps a role to the node that fills it. `settings` is canonical JSON: everything declared that decides the
    result. `code` maps what computes it (component source digests, the engine's own modules, library versions) to digests
    or versions. `uncacheable` says why a part of the key cannot be known, if so. An `effect` changes the world: it is
    never cached, is idempotent, and runs in the engine's own process after everything that it needs. The rest is not
    part of the key: `title` and `declared_at` (where in the YAML each setting stands) for people, and how to run.
    """

    name: str
    kind: str
    inputs: dict[str, str] = {}
    settings: dict[str, Any] = {}
    code: dict[str, str] = {}
    alternatives: tuple[Alternative, ...] = ()
    uncacheable: str | None = None
    effect: bool = False
    title: str = ""
    declared_at: dict[str, str] = {}
    timeout_seconds: float = 7200.0
    retries: int = 1
    backoff_seconds: float = 1.0


class ExecutionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes in topological order; each name once, each input an earlier node."""

    pipeline: str
    nodes: tuple[PlanNode, ...]

    @property
    def edges(self) -> Edges:
        """What each node needs."""
        return {node.name: tuple(node.inputs.values()) for node in self.nodes}

    def node(self, name: str) -> PlanNode:
        """Give a node by name; raises `KeyError`."""
        return next(node for node in self.nodes if node.name == name) if name in self.edges else _missing(name)

    @property
    def digest(self) -> str:
        """Identity of the plan: every node's declared part."""
        return digest([{"name": node.name, **declared_identity(node)} for node in self.nodes])


def _missing(name: str) -> PlanNode:
    raise KeyError(name)


def declared_identity(node: PlanNode) -> dict[str, Any]:
    """Give the part of a node's key that is known before anything runs."""
    return {
        "scheme": KEY_SCHEME,
        "kind": node.kind,
        "settings": node.settings,
        "code": dict(node.code),
        "inputs": dict(node.inputs),
    }


def settle(node: PlanNode, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Give the node's settings, now that its inputs' content digests are known by role."""
    chosen = {item.setting: item.value for item in node.alternatives if inputs.get(item.role) == item.digest}
    return {**node.settings, **chosen}


def action_key(node: PlanNode, inputs: Mapping[str, str]) -> str:
    """Give the key of this node over its inputs' content digests by role.

    The names of upstream nodes are not in it: what they produced is.
    """
    identity = declared_identity(node) | {"inputs": dict(inputs), "settings": settle(node, inputs)}
    return digest(identity)
