"""The model registry: versions, aliases, and the append-only ledger of who moved which alias, when and why.

Enters: package digests and decisions. Leaves: `ModelVersion` and `LedgerEntry`. Called by promotion and `engine models`.
An alias moves by compare-and-swap, and its ledger row is written in the same transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

import msgspec

from engine.clock import Clock, SystemClock, isoformat
from engine.errors import ConflictError, IntegrityError, NotFoundError, UsageError
from engine.keys import canonical_json
from engine.records import LedgerEntry, ModelVersion
from engine.stores.database import Database, Row, Transaction
from engine.stores.ledger import (
    MOVES,
    Draft,
    Versions,
    Why,
    append,
    find_breaks,
    holder_at,
    last_known_good,
    replay,
    rolled_back,
)

_LEDGER_COLUMNS = tuple(field.name for field in msgspec.structs.fields(LedgerEntry))
_MODEL_COLUMNS = tuple(field.name for field in msgspec.structs.fields(ModelVersion))

Kind = TypeVar("Kind")


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A model package before it has its version; the fields are those of `ModelVersion`."""

    name: str
    digest: str
    run_id: str
    pipeline: str
    metrics: Mapping[str, float | None]
    verdict: str | None
    model_digest: str | None = None
    content_digest: str | None = None
    compared_with: str | None = None


class Registry:
    """The models of one state database. Safe for several processes and threads."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()

    def register(
        self, candidate: Candidate, *, is_kept: Callable[[ModelVersion], bool] = lambda _: False
    ) -> ModelVersion:
        """Give a package the model's next version; the same digest again gives the version that it has.

        So does the same `content_digest`, of a version whose package `is_kept`: two runs at once register one model.
        """
        name = candidate.name
        with self._database.transaction(_lock(name)) as transaction:
            known = transaction.query("SELECT * FROM models WHERE name = ? AND digest = ?", (name, candidate.digest))
            if known:
                return _version(known[0])
            alike = transaction.query(
                "SELECT * FROM models WHERE name = ? AND content_digest = ? ORDER BY version",
                (name, candidate.content_digest),
            )
            for version in map(_version, alike):
                if is_kept(version):
                    return version
            last = transaction.query("SELECT MAX(version) AS version FROM models WHERE name = ?", (name,))[0]["version"]
            made = _numbered(candidate, (last or 0) + 1, isoformat(self._clock.now()))
            _insert(
                transaction, "models", {**msgspec.to_builtins(made), "metrics": canonical_json(made.metrics).decode()}
            )
            why = Why("engine", f"run {made.run_id}", made.run_id, msgspec.to_builtins(made))
            self._write(transaction, Draft.of(name, "", "register", Versions(None, made.version), why))
        return made

    def names(self) -> list[str]:
        """List the models."""
        return [str(row["name"]) for row in self._database.query("SELECT DISTINCT name FROM models ORDER BY name")]

    def versions(self, name: str) -> list[ModelVersion]:
        """List a model's versions, oldest first; none when nobody registered one."""
        return [
            _version(row)
            for row in self._database.query("SELECT * FROM models WHERE name = ? ORDER BY version", (name,))
        ]

    def aliases(self, name: str) -> dict[str, int]:
        """Give which version holds each alias of a model."""
        rows = self._database.query("SELECT alias, version FROM aliases WHERE model = ? ORDER BY alias", (name,))
        return {row["alias"]: row["version"] for row in rows}

    def alias(self, name: str, alias: str) -> ModelVersion | None:
        """Give the version that holds an alias; `None` when none does."""
        join = "SELECT m.* FROM models m JOIN aliases a ON a.model = m.name AND a.version = m.version"
        rows = self._database.query(f"{join} WHERE a.model = ? AND a.alias = ?", (name, alias))
        return _version(rows[0]) if rows else None

    def move_alias(self, name: str, alias: str, versions: Versions, why: Why, *, action: str) -> LedgerEntry:
        """Move an alias from the version it is expected at, and write why, in one transaction.

        Raises `ConflictError` saying who moved it meanwhile, `NotFoundError` for an unknown version. An alias that is
        expected where it shall go is left alone: the row that put it there is given.
        """
        if action not in MOVES:
            raise UsageError(f"{action!r} does not move an alias", hint=f"allowed: {', '.join(MOVES)}")
        if not alias:
            raise UsageError("an alias has a name, as in `champion`")
        draft = Draft.of(name, alias, action, versions, why)
        with self._database.transaction(_lock(name)) as transaction:
            _require_version(transaction, name, versions.after)
            held = _holder(transaction, name, alias)
            last_move = _last_move(transaction, name, alias)
            if held != versions.before:
                raise ConflictError(
                    _moved_words(draft, held, last_move), hint="look at `engine models history`, then decide anew"
                )
            if held == versions.after and last_move is not None:
                return last_move
            _point(transaction, draft)
            return self._write(transaction, draft)

    def known_good(self, name: str, alias: str) -> int:
        """Give the version that a rollback would go to; raises `NotFoundError` when there is none."""
        return self._way_back(name, alias)[1]

    def rollback(self, name: str, alias: str, why: Why) -> LedgerEntry:
        """Move an alias back to its last known good version; raises `NotFoundError` when there is none.

        Of two rollbacks at once one wins, and the other raises `ConflictError`.
        """
        present, target = self._way_back(name, alias)
        told = msgspec.structs.replace(why, evidence={**why.evidence, "rolled_back_from": present})
        return self.move_alias(name, alias, Versions(present, target), told, action="rollback")

    def _way_back(self, name: str, alias: str) -> tuple[int, int]:
        entries = self.history(name)
        present = replay(entries)[0].get(alias)
        target = last_known_good(entries, alias)
        if present is None or target is None:
            held = f"{name}:{present} is the first that held it" if present else "nothing holds it"
            raise NotFoundError(f"@{alias} of {name} cannot go back: {held}", hint="promote a version instead")
        return present, target

    def rolled_back(self, name: str, alias: str) -> dict[int, LedgerEntry]:
        """Give the versions that were found bad: rolled back from, and not promoted again since."""
        return rolled_back(self.history(name), alias)

    def record_rejection(self, name: str, alias: str, version: int, why: Why) -> LedgerEntry:
        """Write down that a version was refused an alias, which stays where it is."""
        with self._database.transaction(_lock(name)) as transaction:
            _require_version(transaction, name, version)
            held = _holder(transaction, name, alias)
            return self._write(transaction, Draft.of(name, alias, "reject", Versions(held, version), why))

    def record_rollout(
        self, name: str, alias: str, versions: Versions, why: Why, *, last_sequence: int | None
    ) -> LedgerEntry:
        """Write a step of a rollout, which moves no alias, if that is the sequence of the last one; `None`: there is none.

        Raises `ConflictError` when somebody else wrote one meanwhile.
        """
        with self._database.transaction(_lock(name)) as transaction:
            _require_version(transaction, name, versions.after)
            last = _last_rollout(transaction, name)
            if (last.sequence if last else None) != last_sequence:
                raise ConflictError(f"the rollout of {name} went on meanwhile", hint=f"engine rollout show {name}")
            return self._write(transaction, Draft.of(name, alias, "rollout", versions, why))

    def last_rollout(self, name: str) -> LedgerEntry | None:
        """Give the last row that a rollout of the model wrote."""
        return _last_rollout(self._database, name)

    def history(self, name: str) -> list[LedgerEntry]:
        """Give a model's ledger, oldest row first."""
        return [
            _entry(row)
            for row in self._database.query("SELECT * FROM ledger WHERE model = ? ORDER BY sequence", (name,))
        ]

    def at(self, name: str, alias: str, moment: datetime) -> ModelVersion | None:
        """Give the version that held an alias at a moment (aware); `None` when none did."""
        if moment.tzinfo is None:
            raise UsageError(f"{moment} has no time zone", hint="write it as in 2026-11-23T08:00:00Z")
        held = holder_at(self.history(name), alias, isoformat(moment))
        return next((version for version in self.versions(name) if version.version == held), None)

    def verify_ledger(self, name: str) -> list[str]:
        """Recompute the chain, replay it, and compare with the aliases and versions as they are; gives what is wrong."""
        with self._database.transaction(None) as transaction:
            rows = transaction.query("SELECT * FROM ledger WHERE model = ? ORDER BY sequence", (name,))
            held = transaction.query("SELECT alias, version FROM aliases WHERE model = ?", (name,))
            models = transaction.query("SELECT * FROM models WHERE name = ? ORDER BY version", (name,))
        try:
            entries = [_entry(row) for row in rows]
            versions = {version.version: msgspec.to_builtins(version) for version in map(_version, models)}
        except IntegrityError as error:
            return [error.message]
        holders, problems = replay(entries)
        problems = find_breaks(entries) + problems
        aliases = {row["alias"]: row["version"] for row in held}
        problems += [
            f"@{alias} is at {aliases.get(alias)}, but the ledger puts it at {holders.get(alias)}"
            for alias in sorted(aliases.keys() | holders.keys())
            if aliases.get(alias) != holders.get(alias)
        ]
        registered = {entry.to_version: entry.evidence for entry in entries if entry.action == "register"}
        return problems + [
            f"{name}:{version} is not what was registered"
            for version in sorted(versions.keys() | {number for number in registered if number is not None})
            if versions.get(version) != registered.get(version)
        ]

    def _write(self, transaction: Transaction, draft: Draft) -> LedgerEntry:
        rows = transaction.query("SELECT * FROM ledger WHERE model = ? ORDER BY sequence DESC LIMIT 1", (draft.model,))
        entry = append(draft, _entry(rows[0]) if rows else None, isoformat(self._clock.now()))
        _insert(
            transaction, "ledger", {**msgspec.to_builtins(entry), "evidence": canonical_json(entry.evidence).decode()}
        )
        return entry


def _lock(name: str) -> str:
    return f"registry:{name}"


def _insert(transaction: Transaction, table: str, row: Row) -> None:
    marks = ", ".join("?" * len(row))
    transaction.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))  # noqa: S608 - our names


def _holder(transaction: Transaction, name: str, alias: str) -> int | None:
    rows = transaction.query("SELECT version FROM aliases WHERE model = ? AND alias = ?", (name, alias))
    return int(rows[0]["version"]) if rows else None


def _last_move(transaction: Transaction, name: str, alias: str) -> LedgerEntry | None:
    moves = "SELECT * FROM ledger WHERE model = ? AND alias = ? AND action IN ('promote', 'rollback')"
    rows = transaction.query(f"{moves} ORDER BY sequence DESC LIMIT 1", (name, alias))
    return _entry(rows[0]) if rows else None


def _last_rollout(ledger: Database | Transaction, name: str) -> LedgerEntry | None:
    rows = ledger.query(
        "SELECT * FROM ledger WHERE model = ? AND action = 'rollout' ORDER BY sequence DESC LIMIT 1", (name,)
    )
    return _entry(rows[0]) if rows else None


def _point(transaction: Transaction, draft: Draft) -> None:
    """Swap the alias, once more only from where it is expected."""
    if draft.from_version is None:
        _insert(transaction, "aliases", {"model": draft.model, "alias": draft.alias, "version": draft.to_version})
        return
    swap = "UPDATE aliases SET version = ? WHERE model = ? AND alias = ? AND version = ?"
    if transaction.execute(swap, (draft.to_version, draft.model, draft.alias, draft.from_version)) != 1:
        raise ConflictError(f"@{draft.alias} of {draft.model} moved while it was being moved", hint="try again")


def _require_version(transaction: Transaction, name: str, version: int) -> None:
    if not transaction.query("SELECT version FROM models WHERE name = ? AND version = ?", (name, version)):
        rows = transaction.query("SELECT version FROM models WHERE name = ? ORDER BY version DESC LIMIT 5", (name,))
        known = ", ".join(str(row["version"]) for row in rows)
        raise NotFoundError(
            f"{name}:{version} is not registered", hint=f"the latest: {known}" if known else "none is yet"
        )


def _moved_words(draft: Draft, held: int | None, move: LedgerEntry | None) -> str:
    expected = "nothing" if draft.from_version is None else f"version {draft.from_version}"
    found = "nothing holds it" if held is None else f"version {held} holds it"
    who = ""
    if move is not None:
        run = f", run {move.run_id}" if move.run_id else ""
        who = f" since {move.at}: {move.actor} moved it ({move.action}: {move.reason}{run})"
    return f"@{draft.alias} of {draft.model} moved: it was expected at {expected}, but {found}{who}"


def _numbered(candidate: Candidate, version: int, at: str) -> ModelVersion:
    """Make a version of a candidate; NaN becomes null. Raises `UsageError` for a digest or verdict that is none."""
    fields = {**msgspec.structs.asdict(candidate), "version": version, "created_at": at}
    try:
        return msgspec.json.decode(msgspec.json.encode(fields), type=ModelVersion)
    except (TypeError, msgspec.MsgspecError) as error:
        raise UsageError(f"this cannot be registered as a version of {candidate.name}: {error}") from error


def _version(row: Row) -> ModelVersion:
    return _read(row, _MODEL_COLUMNS, "metrics", ModelVersion)


def _entry(row: Row) -> LedgerEntry:
    return _read(row, _LEDGER_COLUMNS, "evidence", LedgerEntry)


# msgspec looks at a class when it first converts to it, and crashes when several threads do so at once: do it here.
_LOOKED_AT = tuple(msgspec.json.Decoder(kind) for kind in (ModelVersion, LedgerEntry))


def _read(row: Row, columns: tuple[str, ...], document: str, kind: type[Kind]) -> Kind:
    """Make a record of a row; raises `IntegrityError` for one that this engine cannot have written."""
    try:
        return msgspec.convert({**{name: row[name] for name in columns}, document: json.loads(row[document])}, kind)
    except (KeyError, TypeError, ValueError) as error:
        label = row.get("sequence", row.get("version"))
        raise IntegrityError(
            f"row {label} of {row.get('model', row.get('name'))} in the state database is damaged: {error}",
            hint="restore the database from a copy",
        ) from error
