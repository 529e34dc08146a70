"""The ledger's logic: how rows chain, what they add up to, and which version was good last. Pure.

Enters: the rows of one model, by sequence. Leaves: rows, versions, problems in words. Called by `registry`.
Each row's digest covers the row and the digest before it, so a changed, lost or inserted row shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from engine.errors import StoreError
from engine.keys import Json, digest
from engine.records import LedgerEntry

GENESIS = "0" * 64
MOVES = ("promote", "rollback")


class Why(msgspec.Struct, frozen=True):
    """What stands behind a row: who decided it and why, in which run, on what evidence (JSON)."""

    actor: str
    reason: str
    run_id: str | None = None
    evidence: Mapping[str, Any] = {}


class Versions(NamedTuple):
    """Which version holds an alias before a decision, and which it is about."""

    before: int | None
    after: int


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A row before it has its place in the chain."""

    model: str
    alias: str
    action: str
    from_version: int | None
    to_version: int | None
    actor: str
    reason: str
    run_id: str | None = None
    evidence: Mapping[str, Any] = {}

    @classmethod
    def of(cls, model: str, alias: str, action: str, versions: Versions, why: Why) -> Draft:
        """Draft a row about an alias."""
        before, after = versions
        behind = msgspec.structs.asdict(why)
        return cls(model=model, alias=alias, action=action, from_version=before, to_version=after, **behind)


def append(draft: Draft, last: LedgerEntry | None, at: str) -> LedgerEntry:
    """Give the row that follows `last`; its time never precedes that one's. Raises `StoreError` for evidence not in JSON."""
    try:
        content = msgspec.json.decode(msgspec.json.encode(draft))  # NaN becomes null, tuples become lists
        content["sequence"] = last.sequence + 1 if last else 1
        content["at"] = max(at, last.at) if last else at
        content["previous"] = last.digest if last else GENESIS
        return msgspec.convert(content | {"digest": digest(content)}, LedgerEntry)
    except (TypeError, ValueError, OverflowError) as error:
        raise StoreError(f"this cannot be written to the ledger of `{draft.model}`: {error}") from error


def find_breaks(entries: Sequence[LedgerEntry]) -> list[str]:
    """Recompute the chain; say every row that does not fit."""
    problems = []
    before, position = GENESIS, 0
    for entry in entries:
        position += 1
        if entry.sequence != position:
            problems.append(f"row {entry.sequence}: row {position} is missing or out of order")
            position = entry.sequence
        if entry.previous != before:
            problems.append(f"row {entry.sequence}: it does not follow from the row before it")
        content: dict[str, Json] = msgspec.structs.asdict(entry)
        if digest({name: value for name, value in content.items() if name != "digest"}) != entry.digest:
            problems.append(f"row {entry.sequence}: its content was changed")
        before = entry.digest
    return problems


def replay(entries: Sequence[LedgerEntry]) -> tuple[dict[str, int], list[str]]:
    """Give who holds each alias after all rows, and the moves that did not start where the alias was."""
    holders: dict[str, int] = {}
    problems = []
    for entry in entries:
        if entry.action not in MOVES or entry.to_version is None:
            continue
        if holders.get(entry.alias) != entry.from_version:
            problems.append(
                f"row {entry.sequence}: @{entry.alias} was at {holders.get(entry.alias)}, not {entry.from_version}"
            )
        holders[entry.alias] = entry.to_version
    return holders, problems


def last_known_good(entries: Sequence[LedgerEntry], alias: str) -> int | None:
    """Give the version to go back to: the one held before the present one was promoted; `None` when there is none.

    A promotion puts a version on a stack and a rollback takes it off, so rolling back twice goes back twice, and never
    to a version that was rolled back from.
    """
    stack: list[int] = []
    for entry in entries:
        if entry.alias != alias or entry.to_version is None:
            continue
        if entry.action == "promote":
            stack.append(entry.to_version)
        elif entry.action == "rollback":
            while stack and stack[-1] != entry.to_version:
                stack.pop()
            stack = stack or [entry.to_version]
    return stack[-2] if len(stack) > 1 else None


def rolled_back(entries: Sequence[LedgerEntry], alias: str) -> dict[int, LedgerEntry]:
    """Give the versions that were rolled back from and not promoted again since, with the row that says why."""
    bad: dict[int, LedgerEntry] = {}
    for entry in entries:
        if entry.alias != alias:
            continue
        if entry.action == "rollback" and entry.from_version is not None:
            bad[entry.from_version] = entry
        elif entry.action == "promote" and entry.to_version is not None:
            bad.pop(entry.to_version, None)
    return bad


def holder_at(entries: Sequence[LedgerEntry], alias: str, moment: str) -> int | None:
    """Give the version that held an alias at a time (RFC 3339, UTC, microseconds); `None` when none did yet."""
    moves = [entry for entry in entries if entry.alias == alias and entry.action in MOVES and entry.at <= moment]
    return moves[-1].to_version if moves else None
