"""What was in production, when, why, by whom, and what exactly it was; and whose review is due.

Enters: the registry, the artefact store and a time. Leaves: records. Called by `engine models`, `engine doctor` and
`engine score`. The ledger says who and why; the package that the version names says what.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from engine.clock import isoformat
from engine.contracts import ArtefactStore
from engine.errors import EngineError, IntegrityError, UsageError
from engine.model_records import CardFacts, Review, Tenure
from engine.records import LedgerEntry, ModelVersion
from engine.stores.ledger import MOVES
from engine.stores.registry import Registry


def tenures_between(registry: Registry, name: str, alias: str, span: tuple[str, str]) -> list[Tenure]:
    """Give every tenure of an alias that overlaps `[from, to)`, both RFC 3339 in UTC, in order."""
    moves = [entry for entry in registry.history(name) if entry.alias == alias and entry.action in MOVES]
    versions = {version.version: version for version in registry.versions(name)}
    ends = [entry.at for entry in moves[1:]] + [None]
    return [
        _tenure(entry, until, versions.get(entry.to_version or 0))
        for entry, until in zip(moves, ends, strict=True)
        if entry.at < span[1] and (until is None or until > span[0])
    ]


def _tenure(entry: LedgerEntry, until: str | None, version: ModelVersion | None) -> Tenure:
    return Tenure(
        model=entry.model,
        alias=entry.alias,
        version=entry.to_version or 0,
        since=entry.at,
        until=until,
        action=entry.action,
        actor=entry.actor,
        reason=entry.reason,
        run_id=entry.run_id or (version.run_id if version else None),
        digest=version.digest if version else None,
        model_digest=version.model_digest if version else None,
        metrics=version.metrics if version else {},
        verdict=version.verdict if version else None,
    )


def describe_tenure(tenure: Tenure, store: ArtefactStore) -> Tenure:
    """Add what its package says: git commit, snapshot commits, gates, owner."""
    try:
        if tenure.digest is None:
            return msgspec.structs.replace(tenure, missing="the version is not registered any more")
        folder = store.open(tenure.digest)
        provenance, evidence = read_json(folder, "provenance.json"), read_json(folder, "evidence.json")
    except EngineError as error:
        return msgspec.structs.replace(tenure, missing=error.message)
    return msgspec.structs.replace(
        tenure,
        owner=read_card(folder).owner,
        git=provenance.get("git", {}),
        snapshots=provenance.get("snapshots", {}),
        gates={item["name"]: item["status"] for item in evidence.get("gates", {}).get("results", ())},
    )


def parse_span(text: str) -> tuple[str, str]:
    """Read a day (all of it, in UTC) or a moment as a half-open span.

    >>> parse_span("2026-11-23")
    ('2026-11-23T00:00:00.000000Z', '2026-11-24T00:00:00.000000Z')
    """
    try:
        if len(text) == len("2026-11-23"):
            day = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
            return isoformat(day), isoformat(day + timedelta(days=1))
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text}: neither a day nor a time", hint="as in 2026-11-23 or 2026-11-23T08:00:00Z"
        ) from error
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return isoformat(moment), isoformat(moment + timedelta(microseconds=1))


def read_json(folder: Path, name: str) -> Any:
    """Read one document of a package; raises `IntegrityError` for one that is missing or is none."""
    try:
        return json.loads((folder / name).read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{name} of the package {folder.name[:12]} cannot be read: {error}") from error


def read_card(folder: Path) -> CardFacts:
    """Read what the card says; a package from before `card.json` says nothing."""
    path = folder / "card.json"
    if not path.is_file():
        return CardFacts()
    try:
        return msgspec.json.decode(path.read_bytes(), type=CardFacts)
    except (OSError, msgspec.MsgspecError) as error:
        raise IntegrityError(f"card.json of the package {folder.name[:12]} cannot be read: {error}") from error


def review_of(version: ModelVersion, store: ArtefactStore, today: date) -> Review:
    """Say when a version is to be reviewed, and by how many days that has passed."""
    try:
        card = read_card(store.open(version.digest))
    except EngineError:
        card = CardFacts()
    late = (today - date.fromisoformat(card.review_by)).days if card.review_by else 0
    return Review(
        model=version.name,
        version=version.version,
        owner=card.owner,
        review_by=card.review_by,
        overdue_days=late if late > 0 else None,
    )


def held_versions(registry: Registry, name: str) -> Iterator[ModelVersion]:
    """Give the versions that some alias points at."""
    held = set(registry.aliases(name).values())
    return (version for version in registry.versions(name) if version.version in held)


def overdue_reviews(registry: Registry, store: ArtefactStore, today: date, names: Sequence[str]) -> list[Review]:
    """Give the versions in use whose review date has passed."""
    reviews = [review_of(version, store, today) for name in names for version in held_versions(registry, name)]
    return [review for review in reviews if review.overdue_days]


def words_of(review: Review) -> str:
    """Say that a review is due.

    >>> words_of(Review(model="m", version=2, owner="ann", review_by="2026-01-01", overdue_days=3))
    'm:2 was to be reviewed by 2026-01-01 (3 days ago); owner: ann'
    """
    days = "day" if review.overdue_days == 1 else "days"
    owner = review.owner or "nobody is named"
    return f"{review.model}:{review.version} was to be reviewed by {review.review_by} ({review.overdue_days} {days} ago); owner: {owner}"
