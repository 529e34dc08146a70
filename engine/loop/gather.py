"""What a tick may know of a pipeline: its runs, its model in production, its sources' content and its monitors' readings.

Enters: a declaration and the stores. Leaves: a `View` for triggers and a `Past` for the policy. Reads only. Called by `tick`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from engine.clock import isoformat
from engine.durations import microseconds
from engine.errors import EngineError
from engine.locations import Stores
from engine.loop.decide import Past
from engine.loop.declarations import Declaration
from engine.loop_contracts import Measured, Opinion, Serving, View
from engine.loop_records import RunRequest, TriggerMemory
from engine.stores.loop_state import OPEN, LoopState

ReadReadings: TypeAlias = Callable[[str, datetime], Sequence[Measured]]
"""Give a pipeline's readings up to a moment, ascending by the chunk's end."""


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that is read for one pipeline at one moment."""

    declaration: Declaration
    memory: TriggerMemory
    requests: Sequence[RunRequest]
    now: datetime
    readings: Sequence[Measured] = ()
    serving: Serving | None = None


def gather(declaration: Declaration, memory: TriggerMemory, stores: Stores, now: datetime, read: ReadReadings) -> Known:
    """Read what the declared triggers can ask for, and no more."""
    since = isoformat(now - timedelta(microseconds=microseconds(declaration.declared.retrain.budget.per)))
    requests = LoopState(stores.database).recent_requests(declaration.pipeline, since)
    kinds = {spec.kind for spec in declaration.specs.values()}
    readings = read(declaration.declared.name, now) if kinds & {"drift", "performance", "quality"} else ()
    serving = _serving(declaration, stores) if kinds & {"staleness", "new_labels"} else None
    return Known(declaration, memory, requests, now, readings, serving)


def opinions_of(known: Known) -> dict[str, Opinion]:
    """Ask every trigger that is not paused, parts before what combines them."""
    found: dict[str, Opinion] = {}
    observed = latest_observation(known.requests)
    for name, trigger in known.declaration.triggers.items():
        cursor: Mapping[str, Any] = known.memory.cursors.get(name, {})
        if name in known.memory.paused_triggers:
            found[name] = Opinion(fired=False, why=f"paused: {known.memory.paused_triggers[name]}", cursor=cursor)
            continue
        view = View(
            now=known.now,
            cursor=cursor,
            readings=known.readings,
            content=observed.content if observed else {},
            labels=observed.labels if observed else None,
            serving=known.serving,
            opinions=found,
        )
        found[name] = trigger.judge(view)
    return found


def past_of(known: Known, subject: str) -> Past:
    """Add up what the policy looks at, from the requests of the budget's period and the last one before it."""
    trained = [item for item in known.requests if item.kind != "observe"]
    over = sorted((item for item in trained if item.ended_at and item.state in {"done", "failed"}), key=_end)
    flying = next((item for item in trained if item.state in OPEN), None)
    failures = 0
    for item in reversed(over):
        if item.state != "failed":
            break
        failures += 1
    period = isoformat(known.now - timedelta(microseconds=microseconds(known.declaration.declared.retrain.budget.per)))
    spent = [item for item in trained if item.created_at >= period and item.state != "cancelled"]
    observed, last = latest_observation(known.requests), over[-1] if over else None
    return Past(
        subject=subject,
        in_flight=(flying.run_id or flying.key[:12]) if flying else None,
        quarantined=observed.quarantined if observed else (),
        failures=failures,
        failed_subject=last.subject if last is not None and failures else None,
        refused_subject=last.subject if last is not None and last.verdict == "reject" else None,
        ended_at=datetime.fromisoformat(last.ended_at) if last is not None and last.ended_at else None,
        spent_runs=len(spent),
        spent_cpu_hours=sum(item.cpu_seconds for item in spent) / 3600,
        paused=known.memory.paused,
    )


def latest_observation(requests: Sequence[RunRequest]) -> RunRequest | None:
    """Give the last run that looked at the sources: every run that ended in order or quarantined something did."""
    over = sorted((item for item in requests if item.ended_at and (item.content or item.quarantined)), key=_end)
    return over[-1] if over else None


def _end(request: RunRequest) -> str:
    return request.ended_at or ""


def _serving(declaration: Declaration, stores: Stores) -> Serving | None:
    """Look the model in production up: when it was promoted, and what its package says of its data."""
    declared = declaration.declared
    version = stores.registry.alias(declared.model, declared.alias)
    if version is None:
        return None
    moves = [entry for entry in stores.registry.history(declared.model) if entry.alias == declared.alias]
    moved = next((entry.at for entry in reversed(moves) if entry.to_version == version.version), version.created_at)
    split: Mapping[str, Any] = {}
    with suppress(EngineError, OSError, ValueError):  # its age is known nevertheless
        split = json.loads((stores.artefacts.open(version.digest) / "package.json").read_bytes()).get("split", {})
    parts = {name: part for name, part in split.items() if isinstance(part, Mapping)}
    newest = parts.get("train", {}).get("last")
    return Serving(
        version=version.version,
        promoted_at=datetime.fromisoformat(moved),
        trained_until=datetime.fromisoformat(newest) if newest else None,
        labels=sum(int(part.get("rows", 0)) for part in parts.values()) or None,
    )
