"""What a tick may know of a pipeline: its runs, its model in production, its sources' content and its monitors' readings.

Enters: a declaration and the stores. Leaves: a `View` for triggers and a `Past` for the policy. Reads only. Called by `tick`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from engine.clock import isoformat
from engine.durations import microseconds
from engine.errors import EngineError, IntegrityError
from engine.locations import Stores
from engine.loop.decide import Past
from engine.loop.declarations import Declaration
from engine.loop.readings import ReadReadings, measured
from engine.loop_contracts import Measured, Opinion, Serving, Trigger, View
from engine.loop_records import RunRequest, TriggerMemory
from engine.stores.ledger import MOVES
from engine.stores.loop_state import OPEN, LoopState

_ABOUT_DATA = frozenset({"cron", "manual", "any", "all", "data_commit"})
_ABOUT_MODEL = frozenset({"staleness", "new_labels"})
_READ_BY = frozenset({"drift", "performance", "quality"})


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
    serving: Serving | None = None
    readings: Sequence[Measured] = ()
    if kinds - _ABOUT_DATA:  # a trigger of a user's own may ask for anything
        serving = _serving(declaration, stores, now, whole=bool(kinds - _ABOUT_DATA - _READ_BY))
        label = f"{declaration.declared.model}@{serving.version}" if serving else None
        if kinds - _ABOUT_DATA - _ABOUT_MODEL:
            chunks = max(int(getattr(spec.params, "n", 1)) for spec in declaration.specs.values())
            readings = measured(read(stores, declaration.declared.name, now, chunks), label)
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
        found[name] = _judge(known.declaration.pipeline, name, trigger, view)
    return found


def _judge(pipeline: str, name: str, trigger: Trigger, view: View) -> Opinion:
    """Ask one trigger; what it raises is an error of this pipeline, and the others still tick."""
    try:
        return trigger.judge(view)
    except EngineError:
        raise
    except Exception as error:
        raise IntegrityError(
            f"{pipeline}: the trigger `{name}` failed: {type(error).__name__}: {error}",
            hint=f"if what it remembers is the cause: engine triggers reset {pipeline} --forget --reason …",
        ) from error


def past_of(known: Known, subject: str) -> Past:
    """Add up what the policy looks at, from the requests of the budget's period and the last one before it."""
    trained = [item for item in known.requests if item.kind == "train"]
    over = sorted((item for item in trained if item.ended_at and item.state in {"done", "failed"}), key=_end)
    flying = next((item for item in known.requests if item.state in OPEN and item.kind != "observe"), None)
    failures, forgiven = 0, known.memory.forgiven_at or ""
    for item in reversed(over):
        if item.state != "failed" or _end(item) <= forgiven:
            break
        failures += 1
    period = isoformat(known.now - timedelta(microseconds=microseconds(known.declaration.declared.retrain.budget.per)))
    spent = [item for item in trained if item.created_at >= period and item.state != "cancelled"]
    observed, last = latest_observation(known.requests), over[-1] if over else None
    judged = last if last is not None and _end(last) > forgiven else None
    return Past(
        subject=subject,
        in_flight=(flying.run_id or flying.key[:12]) if flying else None,
        quarantined=observed.quarantined if observed else (),
        failures=failures,
        failed_subject=last.subject if last is not None and failures else None,
        refused_subject=judged.subject if judged is not None and judged.verdict == "reject" else None,
        ended_at=datetime.fromisoformat(last.ended_at) if last is not None and last.ended_at else None,
        spent_runs=len(spent),
        spent_cpu_hours=sum(item.cpu_seconds for item in spent) / 3600,
        paused=known.memory.paused,
    )


def suspects_of(known: Known, opinions: Mapping[str, Opinion]) -> tuple[str, ...]:
    """Name the triggers that found data bad for the model in production, and have not seen that it is over."""
    version = known.serving.version if known.serving is not None else None
    return tuple(
        name
        for name, opinion in opinions.items()
        if known.declaration.specs[name].kind == "quality"
        and opinion.cursor.get("inside")
        and opinion.cursor.get("version") == version
    )


def latest_observation(requests: Sequence[RunRequest]) -> RunRequest | None:
    """Give the last run that looked at the sources: every run that ended in order or quarantined something did."""
    over = sorted((item for item in requests if item.ended_at and (item.content or item.quarantined)), key=_end)
    return over[-1] if over else None


def _end(request: RunRequest) -> str:
    return request.ended_at or ""


def _serving(declaration: Declaration, stores: Stores, now: datetime, *, whole: bool) -> Serving | None:
    """Look up who was in production at the moment: since when, and with `whole` what its package says of its data."""
    declared = declaration.declared
    held = stores.registry.alias(declared.model, declared.alias)
    if held is None:
        return None
    history = [entry for entry in stores.registry.history(declared.model) if entry.alias == declared.alias]
    moves = [entry for entry in history if entry.action in MOVES and entry.at <= isoformat(now)]
    if moves and moves[-1].to_version != held.version:  # a moment of the past: who held it then
        then = moves[-1].to_version
        held = next((item for item in stores.registry.versions(declared.model) if item.version == then), held)
    moved = next((entry.at for entry in reversed(moves) if entry.to_version == held.version), held.created_at)
    trained = _trained(stores, held.digest) if whole else {}
    newest = trained.get("train", {}).get("last")
    return Serving(
        version=held.version,
        promoted_at=datetime.fromisoformat(moved),
        trained_until=datetime.fromisoformat(newest) if newest else None,
        labels=sum(int(part.get("rows", 0)) for part in trained.values()) or None,
        metrics=held.metrics,
    )


def _trained(stores: Stores, digest: str) -> dict[str, Mapping[str, Any]]:
    """Give the parts of the split as the package tells them; nothing when it cannot be read: its age is known nevertheless."""
    split: Mapping[str, Any] = {}
    with suppress(EngineError, OSError, ValueError):
        split = json.loads(stores.artefacts.read(digest, "package.json")).get("split", {})
    return {name: part for name, part in split.items() if isinstance(part, Mapping)}
