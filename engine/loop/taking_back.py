"""A promotion that turned out to be a mistake is taken back: by the guard's evidence, once, with a row in both ledgers.

Enters: the guard's latest reading. Leaves: the alias at the last known good version, and an alert. Called by `tick`, after the
decision has been committed; the alias moves by compare-and-swap, so a tick that dies in between leaves it to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from engine.clock import isoformat
from engine.errors import ConflictError, EngineError
from engine.keys import digest
from engine.locations import Stores
from engine.loop.declarations import Declaration
from engine.project import Project
from engine.stores.ledger import Versions, Why, last_known_good
from engine.watch_records import Alert, Reading

ACTOR = "engine tick"


@dataclass(frozen=True, slots=True)
class Mistake:
    """A version in production that is surely worse than the one before it."""

    model: str
    alias: str
    version: int
    previous: int
    why: str
    reading: Reading


def find_mistake(declaration: Declaration, stores: Stores, now: datetime) -> Mistake | None:
    """Give what the guard found about the version in production, as it was known at the moment; `None` when all is well."""
    declared = declaration.declared
    if declared.retrain.guard is None:
        return None
    rows = stores.database.query(
        "SELECT body FROM monitor_readings WHERE pipeline = ? AND monitor = 'guard' AND status = 'alarm'",
        (declared.name,),
    )
    if not rows:
        return None
    held = stores.registry.alias(declared.model, declared.alias)
    before = last_known_good(stores.registry.history(declared.model), declared.alias)
    for reading in (msgspec.json.decode(row["body"], type=Reading) for row in rows):
        known = reading.details.get("version"), reading.details.get("previous")
        if held is not None and known == (held.version, before) and before is not None and reading.at <= isoformat(now):
            why = f"{declared.model}:{held.version} goes back to {declared.model}:{before}: {reading.words}"
            return Mistake(declared.model, declared.alias, held.version, before, why, reading)
    return None


def take_back(project: Project, declaration: Declaration, stores: Stores, mistake: Mistake, now: datetime) -> bool:
    """Move the alias back and tell people; `False` when somebody has moved it meanwhile."""
    evidence = {
        "rolled_back_from": mistake.version, "difference": mistake.reading.value, "low": mistake.reading.low,
        "high": mistake.reading.high, "limit": mistake.reading.details.get("limit"), "rows": mistake.reading.rows,
    }  # fmt: skip
    try:
        stores.registry.move_alias(
            mistake.model, mistake.alias, Versions(mistake.version, mistake.previous),
            Why(ACTOR, mistake.reading.words, evidence=evidence), action="rollback",
        )  # fmt: skip
    except ConflictError:
        return False
    try:
        _tell(project, declaration, stores, mistake, now)
    except EngineError:  # the declaration has become wrong, or the database went: the ledgers say it all the same
        return True
    return True


def _tell(project: Project, declaration: Declaration, stores: Stores, mistake: Mistake, now: datetime) -> None:
    from engine.api import declare  # noqa: PLC0415 - a rollback is rare; composing costs what a whole idle tick does
    from engine.loop.diagnosing import tell  # noqa: PLC0415

    declared, at = declare(project, [f"pipeline={declaration.pipeline}"]), isoformat(now)
    name = f"{mistake.model}:{mistake.version}"
    lines = [
        f"# {name} was rolled back", "", mistake.why, "",
        f"{mistake.model}:{mistake.previous} is in production again; {name} is not promoted any more without --force.", "",
        "## What to do", "", f"    engine models history {mistake.model}", f"    engine triggers explain {declaration.pipeline}",
        "",
    ]  # fmt: skip
    alert = Alert(
        id=digest({"rollback": name, "at": mistake.reading.at})[:12], pipeline=declared.spec.name, monitor="rollback",
        slice=f"version={mistake.version}", state="open", severity="critical", title=f"{name} was rolled back: {mistake.why}"[:300],
        since=mistake.reading.start, last_chunk=mistake.reading.chunk, owner=declared.spec.owner, opened_at=at, changed_at=at,
        runbook="\n".join(lines), command=f"engine models history {mistake.model}",
    )  # fmt: skip
    tell(declared, stores.database, alert)
