"""Rollouts as the ledger tells them: each change is a row, written only where the last one was as expected.

Enters: a declaration and decisions. Leaves: `RolloutState`. Called by promotion, serving and `engine rollout`. Servers read the
state from here and never from `conf/`, so all of them do the same, and the history says who decided what on which evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from engine.errors import ConflictError, NotFoundError
from engine.records import LedgerEntry, RolloutState
from engine.spec.rollout import RolloutSpec
from engine.stores.ledger import Versions, Why
from engine.stores.registry import Registry

ALIVE = ("running", "paused", "held")


def current(registry: Registry, model: str) -> RolloutState | None:
    """The last rollout of a model, whatever became of it; `None` when there was none."""
    entry = registry.last_rollout(model)
    return None if entry is None else _state(entry)


def require(registry: Registry, model: str, *statuses: str) -> RolloutState:
    """The model's rollout, in one of these statuses; raises `NotFoundError`, `ConflictError`."""
    found = current(registry, model)
    if found is None:
        raise NotFoundError(
            f"{model} has no rollout", hint="declare `rollout:` in its pipeline, or: engine rollout start"
        )
    if statuses and found.status not in statuses:
        raise ConflictError(f"the rollout of {model}:{found.challenger} is {found.status}: {found.reason}")
    return found


@dataclass(frozen=True, slots=True)
class Start:
    """What is rolled out, how, and who says so."""

    model: str
    alias: str
    challenger: int
    spec: RolloutSpec
    actor: str
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a rollout, who says so and why; `step` is where it goes on, the present one when absent."""

    status: str
    actor: str
    reason: str
    step: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


def begin(registry: Registry, start: Start) -> RolloutState:
    """Start a rollout against who holds the alias now; one that is alive is replaced by it."""
    model, alias, spec = start.model, start.alias, start.spec
    held = registry.alias(model, alias)
    if held is None:
        raise NotFoundError(f"nothing holds @{alias} of {model}, so there is nothing to roll out against")
    if held.version == start.challenger:
        raise ConflictError(f"{model}:{start.challenger} holds @{alias} already")
    before = current(registry, model)
    salt = spec.salt or f"{model}:{start.challenger}"
    content = {"status": "running", "step": 0, "spec": msgspec.to_builtins(spec), "salt": salt, "begins": True}
    replaced = f", instead of that of {model}:{before.challenger}" if before and before.status in ALIVE else ""
    why = Why(start.actor, f"begin at {spec.steps[0].share:.2%}{replaced}", start.run_id, content)
    versions, last = Versions(held.version, start.challenger), before.sequence if before else None
    registry.record_rollout(model, alias, versions, why, last_sequence=last)
    return require(registry, model)


def change(registry: Registry, state: RolloutState, decision: Decision) -> RolloutState:
    """Write what became of a rollout; raises `ConflictError` when it went on meanwhile."""
    content = {
        "status": decision.status, "step": state.step if decision.step is None else decision.step, "spec": state.spec,
        "salt": state.salt, "begins": False, "found": dict(decision.evidence),
    }  # fmt: skip
    why = Why(decision.actor, decision.reason, evidence=content)
    versions = Versions(state.champion, state.challenger)
    registry.record_rollout(state.model, state.alias, versions, why, last_sequence=state.sequence)
    return require(registry, state.model)


def promote(registry: Registry, state: RolloutState, decision: Decision) -> RolloutState:
    """Move the alias to the challenger, if the champion still holds it, and end the rollout."""
    held = registry.alias(state.model, state.alias)
    if held is None or held.version != state.challenger:
        why = Why(decision.actor, decision.reason, evidence={"rollout": dict(decision.evidence)})
        versions = Versions(state.champion, state.challenger)
        registry.move_alias(state.model, state.alias, versions, why, action="promote")
    return change(registry, state, replace(decision, status="promoted"))


def rows_of(registry: Registry, state: RolloutState) -> list[LedgerEntry]:
    """The rows of this rollout, oldest first."""
    rows: list[LedgerEntry] = []
    for entry in registry.history(state.model):
        if entry.action == "rollout":
            rows = [entry] if entry.evidence.get("begins") else [*rows, entry]
    return rows


def steps_taken(registry: Registry, state: RolloutState) -> list[tuple[str, float]]:
    """From when on which share held: RFC 3339 and a fraction; a pause is a share of 0."""
    return [(entry.at, _share(entry)) for entry in rows_of(registry, state)]


def spec_of(state: RolloutState) -> RolloutSpec:
    """The declaration that it runs by."""
    return msgspec.convert(state.spec, RolloutSpec)


def _share(entry: LedgerEntry) -> float:
    spec = msgspec.convert(entry.evidence["spec"], RolloutSpec)
    return spec.steps[entry.evidence["step"]].share if entry.evidence["status"] == "running" else 0.0


def _state(entry: LedgerEntry) -> RolloutState:
    content = entry.evidence
    return RolloutState(
        model=entry.model, alias=entry.alias, champion=entry.from_version or 0, challenger=entry.to_version or 0,
        status=content["status"], step=content["step"], share=_share(entry), since=entry.at, salt=content["salt"],
        spec=content["spec"], reason=entry.reason, sequence=entry.sequence, evidence=content.get("found", {}),
    )  # fmt: skip
