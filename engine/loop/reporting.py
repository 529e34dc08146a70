"""What the loop did, as incidents: since when something was wrong, when that was found, and when the model was mended.

Enters: a pipeline's ledger of decisions, and its model's ledger. Leaves: a `LoopSummary`. Pure. Called by `engine triggers
report`. Time to detect is from the first bad chunk's beginning, which the trigger named, to the decision; time to recover from
there to the next move of the alias. Several decisions about what is not mended yet are one incident.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from statistics import median

import msgspec

from engine.loop_records import Incident, LoopEntry, LoopSummary
from engine.records import LedgerEntry
from engine.stores.ledger import MOVES

_OBSERVED = ("observe done", "observe failed", "diagnose done", "diagnose failed")


def summarise(pipeline: str, entries: Sequence[LoopEntry], moves: Sequence[LedgerEntry]) -> LoopSummary:
    """Put decisions and moves of the alias together."""
    incidents: list[Incident] = []
    for entry in entries:
        incidents = _closed(incidents, moves, entry.decision.at)
        for found in _found(entry):
            if not any(item.what == found.what and item.recovered is None for item in incidents):
                incidents.append(found)
        if entry.decision.action == "finish" and entry.decision.why.startswith(_OBSERVED):
            incidents = [_data_passed(item, entry) for item in incidents]
    ended = tuple(_timed(item) for item in _closed(incidents, moves, "9999"))
    actions = [entry.decision.action for entry in entries]
    finished = [e.decision.why for e in entries if e.decision.action == "finish" and e.decision.why.startswith("train")]
    detect = [item.seconds_to_detect for item in ended if item.seconds_to_detect is not None]
    recover = [item.seconds_to_recover for item in ended if item.seconds_to_recover is not None]
    return LoopSummary(
        pipeline=pipeline,
        since=min((entry.decision.at for entry in entries), default=None),
        until=max((entry.decision.at for entry in entries), default=None),
        trainings=len(finished),
        refused=sum("verdict reject" in why or "verdict inconclusive" in why for why in finished),
        promotions=sum(move.action == "promote" for move in moves),
        rollbacks=sum(move.action == "rollback" for move in moves),
        quarantines=actions.count("diagnose"),
        incidents=ended,
        median_seconds_to_detect=median(detect) if detect else None,
        median_seconds_to_recover=median(recover) if recover else None,
    )


def moves_of(history: Sequence[LedgerEntry], alias: str) -> list[LedgerEntry]:
    """Give the rows that moved an alias."""
    return [entry for entry in history if entry.alias == alias and entry.action in MOVES]


def _found(entry: LoopEntry) -> list[Incident]:
    """Give what a decision is about: readings that were bad since a moment, quarantined data, a bad promotion."""
    made = entry.decision
    if made.action == "rollback":
        return [Incident(what="promotion", began=made.since, detected=made.at, why=made.why)]
    if made.action == "finish" and "quarantined: " in made.why and made.why.startswith("observe"):
        return [Incident(what="quarantine", began=made.since, detected=made.at, why=made.why)]
    return [
        Incident(what=one.trigger, began=one.since, detected=made.at, why=one.why)
        for one in made.opinions
        if one.fired and one.since is not None
    ]


def _closed(incidents: Sequence[Incident], moves: Sequence[LedgerEntry], until: str) -> list[Incident]:
    """End incidents about the model with the first move of the alias after they were found."""
    ended = []
    for item in incidents:
        move = next((move for move in moves if item.detected <= move.at <= until), None)
        if item.recovered is None and item.what != "quarantine" and move is not None:
            by = f"{move.action} of version {move.to_version}"
            ended.append(msgspec.structs.replace(item, recovered=move.at, by=by))
        else:
            ended.append(item)
    return ended


def _data_passed(item: Incident, entry: LoopEntry) -> Incident:
    clean = "quarantined: " not in entry.decision.why and " done" in entry.decision.why
    if item.what != "quarantine" or item.recovered is not None or not clean:
        return item
    return msgspec.structs.replace(item, recovered=entry.decision.at, by="data that passed")


def _timed(item: Incident) -> Incident:
    return msgspec.structs.replace(
        item,
        seconds_to_detect=_seconds(item.began, item.detected),
        seconds_to_recover=_seconds(item.detected, item.recovered),
    )


def _seconds(begin: str | None, end: str | None) -> float | None:
    if begin is None or end is None:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
