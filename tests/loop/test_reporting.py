"""Incidents from the two ledgers: one until it is mended, timed from the first bad chunk to the move of the alias."""

from __future__ import annotations

from typing import Any

from engine.keys import digest
from engine.loop.reporting import summarise
from engine.loop_records import LoopDecision, LoopEntry, TriggerOpinion
from engine.records import LedgerEntry

NONE = digest("none")


def at(day: int) -> str:
    return f"2024-06-{day:02d}T00:00:00.000000Z"


def entry(day: int, action: str, why: str = "w", **changes: Any) -> LoopEntry:
    made = LoopDecision(pipeline="p", at=at(day), action=action, why=why, **changes)  # type: ignore[arg-type]
    return LoopEntry(pipeline="p", sequence=day, decision=made, previous=NONE, digest=NONE)


def fires(day: int, began: int, name: str = "worse") -> LoopEntry:
    said = TriggerOpinion(trigger=name, fired=True, why="bad", since=at(began))
    return entry(day, "launch", opinions=(said,))


def move(day: int, action: str, version: int) -> LedgerEntry:
    return LedgerEntry(
        model="m", sequence=day, at=at(day), alias="champion", action=action, from_version=1, to_version=version, actor="a",
        reason="r", run_id=None, evidence={}, previous=NONE, digest=NONE,
    )  # fmt: skip


def test_repeated_decisions_about_what_is_not_mended_are_one_incident() -> None:
    found = summarise("p", [fires(5, 3), fires(9, 3), fires(20, 19)], [move(1, "promote", 1), move(11, "promote", 2)])
    assert [(item.began, item.detected, item.recovered) for item in found.incidents] == [
        (at(3), at(5), at(11)), (at(19), at(20), None),
    ]  # fmt: skip
    assert [item.seconds_to_detect for item in found.incidents] == [2 * 86_400, 86_400]
    assert (found.median_seconds_to_recover, found.promotions) == (6 * 86_400, 2)


def test_quarantined_data_is_over_when_newer_data_passes_and_not_by_a_promotion() -> None:
    rows = [
        entry(2, "finish", "observe done: run 2, exit code 5, quarantined: a"),
        entry(3, "finish", "diagnose done: run 3, exit code 5, quarantined: a"),
        entry(4, "finish", "train failed: no run"),
        entry(6, "finish", "observe done: run 4"),
    ]
    (item,) = summarise("p", rows, [move(3, "promote", 2)]).incidents
    assert (item.what, item.detected, item.recovered, item.by) == ("quarantine", at(2), at(6), "data that passed")


def test_reasons_that_are_no_incidents_and_a_pipeline_without_history() -> None:
    slot = entry(2, "launch", opinions=(TriggerOpinion(trigger="nightly", fired=True, why="the slot came"),))
    assert summarise("p", [slot], []).incidents == ()
    assert summarise("p", [], []).since is None
