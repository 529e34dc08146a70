"""The closed loop's state: trigger memory, requests for runs with leases and fences, and the ledger of decisions.

Enters: records of `engine.loop_records`. Leaves: the same, and who won. Called by `engine.loop`. A decision, the memory that
it leaves and the request that it makes are written in one transaction, or not at all: a tick that is killed loses nothing,
and of two ticks at once one wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from engine.clock import isoformat
from engine.errors import IntegrityError, LockedError, NotFoundError
from engine.keys import canonical_json, digest
from engine.loop_records import LoopDecision, LoopEntry, RunRequest, TriggerMemory
from engine.records import SCHEMA_VERSION
from engine.stores.database import Database, Row, Transaction
from engine.stores.ledger import GENESIS

OPEN = ("pending", "running")
_LOCK = "loop"  # one for all: each transaction takes milliseconds, and a request belongs to its pipeline's ledger


class LoopState:
    """One project's loop state; any number of processes may use it at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def memories(self) -> Mapping[str, TriggerMemory | IntegrityError]:
        """Give what is remembered of every pipeline; the error, for what a newer engine wrote: others are not held up."""
        rows = self._database.query("SELECT pipeline, version, memory FROM loop_memory")
        return {row["pipeline"]: _memory(row) for row in rows}

    def commit(
        self, before: TriggerMemory, after: TriggerMemory, decision: LoopDecision | None, request: RunRequest | None
    ) -> bool:
        """Write a decision with all that follows from it; `False` when another tick decided meanwhile, and nothing is written.

        A request whose key is there already is not made again: its occasion has had its run.
        """
        with self._database.transaction(_LOCK) as transaction:
            if not _swap(transaction, before, after):
                return False
            if decision is not None:
                _append(transaction, decision)
            if request is not None:
                _insert(transaction, request)
        return True

    def forget(self, pipeline: str, decision: LoopDecision) -> None:
        """Forget all that is remembered of a pipeline, readable or not; its requests and its ledger stay."""
        with self._database.transaction(_LOCK) as transaction:
            transaction.execute("DELETE FROM loop_memory WHERE pipeline = ?", (pipeline,))
            _append(transaction, decision)

    def record(self, decision: LoopDecision) -> None:
        """Append to the ledger what is no tick's: a person's word, or the end of a run."""
        with self._database.transaction(_LOCK) as transaction:
            _append(transaction, decision)

    def open_requests(self) -> Sequence[RunRequest]:
        """List requests that are not over, the oldest first."""
        rows = self._database.query(
            "SELECT request, state, token, lease_until FROM loop_requests WHERE state IN (?, ?) ORDER BY created_at, key",
            OPEN,
        )
        return [_request(row) for row in rows]

    def recent_requests(self, pipeline: str, since: str) -> Sequence[RunRequest]:
        """List a pipeline's requests since a moment, the oldest first, and always the last one that ended."""
        rows = self._database.query(
            """SELECT request, state, token, lease_until FROM loop_requests WHERE pipeline = ? AND (created_at >= ? OR key IN (
                SELECT key FROM loop_requests WHERE pipeline = ? AND ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT 20))
                ORDER BY created_at, key""",
            (pipeline, since, pipeline),
        )
        return [_request(row) for row in rows]

    def find(self, key: str) -> RunRequest:
        """Give a request by its key or the beginning of it; raises `NotFoundError`."""
        rows = self._database.query(
            "SELECT request, state, token, lease_until FROM loop_requests WHERE key LIKE ? LIMIT 2", (f"{key}%",)
        )
        if len(rows) != 1:
            raise NotFoundError(
                f"{'no' if not rows else 'more than one'} request is called {key!r}", hint="engine triggers ls"
            )
        return _request(rows[0])

    def claim(self, key: str, owner: str, now: datetime, lease: timedelta) -> RunRequest | None:
        """Take a request that nobody works on; `None` when somebody does, or when it is over."""
        with self._database.transaction(_LOCK) as transaction:
            found = _locked(transaction, key)
            free = found.state == "pending" or (
                found.state == "running" and (found.lease_until or "") <= isoformat(now)
            )
            if not free:
                return None
            claimed = msgspec.structs.replace(
                found, state="running", owner=owner, token=found.token + 1, lease_until=isoformat(now + lease)
            )
            _write(transaction, claimed)
        return claimed

    def renew(self, held: RunRequest, now: datetime, lease: timedelta) -> RunRequest:
        """Hold on to a claim; raises `LockedError` when another took it, or when the request was cancelled."""
        with self._database.transaction(_LOCK) as transaction:
            renewed = msgspec.structs.replace(_held(transaction, held), lease_until=isoformat(now + lease))
            _write(transaction, renewed)
        return renewed

    def expire(self, seen: RunRequest, now: str) -> None:
        """End the lease of a process that is known to be gone, unless another has claimed the request meanwhile."""
        with self._database.transaction(_LOCK) as transaction:
            found = _locked(transaction, seen.key)
            if found.token == seen.token and found.state == "running":
                _write(transaction, msgspec.structs.replace(found, lease_until=now))

    def release(self, held: RunRequest) -> None:
        """Give a claim back undone: the next tick launches it again."""
        with self._database.transaction(_LOCK) as transaction:
            _write(transaction, msgspec.structs.replace(_held(transaction, held), state="pending", lease_until=None))

    def finish(self, held: RunRequest, outcome: RunRequest, decision: LoopDecision) -> None:
        """Write what came of a request, fenced by its token; raises `LockedError` when another has taken it."""
        with self._database.transaction(_LOCK) as transaction:
            _held(transaction, held)
            _write(transaction, outcome)
            _append(transaction, decision)

    def cancel(self, key: str, ended_at: str) -> bool:
        """Take a request back, also from who works on it; `False` when it is over already."""
        with self._database.transaction(_LOCK) as transaction:
            found = _locked(transaction, key)
            if found.state not in OPEN:
                return False
            _write(
                transaction, msgspec.structs.replace(found, state="cancelled", token=found.token + 1, ended_at=ended_at)
            )
        return True

    def history(self, pipeline: str, limit: int = 50) -> Sequence[LoopEntry]:
        """List the newest decisions about a pipeline, the oldest of them first."""
        rows = self._database.query(
            "SELECT * FROM loop_ledger WHERE pipeline = ? ORDER BY sequence DESC LIMIT ?", (pipeline, limit)
        )
        return [_entry(row) for row in reversed(rows)]

    def verify(self) -> list[str]:
        """Recompute every chain of the ledger; say each row that does not fit."""
        problems: list[str] = []
        before: dict[str, tuple[int, str]] = {}
        for row in self._database.query("SELECT * FROM loop_ledger ORDER BY pipeline, sequence"):
            entry = _entry(row)
            sequence, previous = before.get(entry.pipeline, (0, GENESIS))
            if entry.sequence != sequence + 1 or entry.previous != previous:
                problems.append(f"{entry.pipeline} row {entry.sequence}: it does not follow from the row before it")
            if _digest(entry.decision, entry.sequence, entry.previous) != entry.digest:
                problems.append(f"{entry.pipeline} row {entry.sequence}: its content was changed")
            before[entry.pipeline] = (entry.sequence, entry.digest)
        return problems


def _swap(transaction: Transaction, before: TriggerMemory, after: TriggerMemory) -> bool:
    memory = canonical_json(msgspec.to_builtins(after)).decode()
    if before.version == 0:
        return transaction.execute(
            "INSERT INTO loop_memory (pipeline, version, memory) VALUES (?, ?, ?) ON CONFLICT (pipeline) DO NOTHING",
            (after.pipeline, 1, memory),
        ) == 1  # fmt: skip
    return transaction.execute(
        "UPDATE loop_memory SET version = version + 1, memory = ? WHERE pipeline = ? AND version = ?",
        (memory, before.pipeline, before.version),
    ) == 1  # fmt: skip


def _append(transaction: Transaction, decision: LoopDecision) -> None:
    last = transaction.query(
        "SELECT sequence, digest FROM loop_ledger WHERE pipeline = ? ORDER BY sequence DESC LIMIT 1",
        (decision.pipeline,),
    )
    sequence, previous = (last[0]["sequence"] + 1, last[0]["digest"]) if last else (1, GENESIS)
    transaction.execute(
        "INSERT INTO loop_ledger (pipeline, sequence, at, decision, previous, digest) VALUES (?, ?, ?, ?, ?, ?)",
        (
            decision.pipeline,
            sequence,
            decision.at,
            canonical_json(msgspec.to_builtins(decision)).decode(),
            previous,
            _digest(decision, sequence, previous),
        ),
    )


def _digest(decision: LoopDecision, sequence: int, previous: str) -> str:
    return digest({"decision": msgspec.to_builtins(decision), "sequence": sequence, "previous": previous})


def _insert(transaction: Transaction, request: RunRequest) -> None:
    transaction.execute(
        "INSERT INTO loop_requests (key, pipeline, state, token, lease_until, created_at, ended_at, request) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
        (
            request.key,
            request.pipeline,
            request.state,
            request.token,
            request.lease_until,
            request.created_at,
            request.ended_at,
            canonical_json(msgspec.to_builtins(request)).decode(),
        ),
    )


def _write(transaction: Transaction, request: RunRequest) -> None:
    transaction.execute(
        "UPDATE loop_requests SET state = ?, token = ?, lease_until = ?, ended_at = ?, request = ? WHERE key = ?",
        (
            request.state,
            request.token,
            request.lease_until,
            request.ended_at,
            canonical_json(msgspec.to_builtins(request)).decode(),
            request.key,
        ),
    )


def _locked(transaction: Transaction, key: str) -> RunRequest:
    rows = transaction.query("SELECT request, state, token, lease_until FROM loop_requests WHERE key = ?", (key,))
    if not rows:
        raise NotFoundError(f"no request is called {key!r}", hint="engine triggers ls")
    return _request(rows[0])


def _held(transaction: Transaction, held: RunRequest) -> RunRequest:
    found = _locked(transaction, held.key)
    if found.token != held.token or found.state != "running":
        raise LockedError(
            f"request {held.key[:12]} is no longer this process's: {found.owner} took it, or it was cancelled",
            hint="nothing to do: whoever has it now finishes the work",
        )
    return found


def remembered(memories: Mapping[str, TriggerMemory | IntegrityError], pipeline: str) -> TriggerMemory:
    """Give one pipeline's memory, empty when there is none; raises `IntegrityError` for one that cannot be read."""
    found = memories.get(pipeline, TriggerMemory(pipeline=pipeline))
    if isinstance(found, IntegrityError):
        raise found
    return found


def _memory(row: Row) -> TriggerMemory | IntegrityError:
    pipeline = row["pipeline"]
    hint = f"use the engine that wrote it, or forget it: engine triggers reset {pipeline} --forget --reason …"
    try:
        found = msgspec.json.decode(row["memory"], type=TriggerMemory)
    except msgspec.DecodeError as error:
        return IntegrityError(f"what is remembered of the triggers of `{pipeline}` cannot be read: {error}", hint=hint)
    if found.schema_version > SCHEMA_VERSION:
        words = f"is of version {found.schema_version}, and this engine knows {SCHEMA_VERSION}: a newer one wrote it"
        return IntegrityError(f"what is remembered of the triggers of `{pipeline}` {words}", hint=hint)
    return msgspec.structs.replace(found, version=int(row["version"]))


def _request(row: Row) -> RunRequest:
    return msgspec.json.decode(row["request"], type=RunRequest)


def _entry(row: Row) -> LoopEntry:
    return LoopEntry(
        pipeline=row["pipeline"],
        sequence=int(row["sequence"]),
        decision=msgspec.json.decode(row["decision"], type=LoopDecision),
        previous=row["previous"],
        digest=row["digest"],
    )
