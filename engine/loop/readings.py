"""The monitors' readings as triggers see them: the latest chunks of the model in production. Called by the tick.

Enters: the state database, a pipeline and a moment. Leaves: `Measured`, one for each thing that a monitor looked at. What was
read after the moment is not seen, so a moment of the past is judged by what was known then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from engine.clock import isoformat
from engine.locations import Stores
from engine.loop_contracts import Measured

MODEL_KINDS = frozenset({"drift", "prediction", "multivariate", "performance", "estimated", "concept", "quality"})
_SPARE = 5  # chunks beyond three times what a trigger asks for, among which enough have enough rows


class _Found(msgspec.Struct, frozen=True):
    """What triggers need of a finding; skipping the rest makes an idle tick cheap."""

    name: str
    status: str
    effect: float | None = None
    now: float | None = None
    distances: dict[str, float] = {}
    details: dict[str, Any] = {}


class Read(msgspec.Struct, frozen=True):
    """What triggers need of a reading."""

    monitor: str
    kind: str
    start: str
    end: str
    rows: int
    status: str
    slice: str = ""
    model: str = ""
    at: str = ""
    value: float | None = None
    findings: tuple[_Found, ...] = ()


ReadReadings: TypeAlias = Callable[[Stores, str, datetime, int], Sequence[Read]]
"""Give the readings of a pipeline's latest chunks, so many at least, as they were known at a moment."""

_decoder = msgspec.json.Decoder(Read)


def read_readings(stores: Stores, pipeline: str, until: datetime, chunks: int) -> Sequence[Read]:
    """Read the latest chunks' readings; those of `engine monitor` by hand count as well."""
    now, database = isoformat(until), stores.database
    starts = database.query(
        "SELECT DISTINCT started_at FROM monitor_readings WHERE pipeline = ? AND started_at <= ? "
        "ORDER BY started_at DESC LIMIT ?",
        (pipeline, now, 3 * chunks + _SPARE),
    )
    if not starts:
        return ()
    rows = database.query(
        "SELECT body FROM monitor_readings WHERE pipeline = ? AND started_at >= ? AND started_at <= ? ORDER BY started_at",
        (pipeline, starts[-1]["started_at"], now),
    )
    read = (_decoder.decode(row["body"]) for row in rows)
    return tuple(item for item in read if item.kind in MODEL_KINDS and item.end <= now and item.at <= now)


def measured(readings: Sequence[Read], model: str | None) -> tuple[Measured, ...]:
    """Give what was measured about one model (`name@version`; `None`: about any), ascending by the chunk's end."""
    kept = [item for item in readings if model is None or item.model == model]
    found = [one for item in kept for one in _measured(item)]
    return tuple(sorted(found, key=lambda item: item.until))


def _measured(read: Read) -> Iterator[Measured]:
    since, until = (datetime.fromisoformat(moment) for moment in (read.start, read.end))
    part = read.slice or None

    def one(what: str, status: str, value: float | None, rows: int, sizes: Mapping[str, float]) -> Measured:
        return Measured(read.kind, what, until, value, status, rows, part, read.monitor, sizes, since)

    if read.status in {"insufficient_data", "broken"} or not read.findings:
        yield one(read.monitor, read.status, read.value, read.rows, {})
        return
    for item in read.findings:
        sizes = dict(item.distances)
        if item.effect is not None:
            sizes["effect"] = abs(item.effect)
        labelled = item.details.get("rows")
        rows = int(labelled) if isinstance(labelled, int | float) else read.rows
        yield one(item.name, item.status, item.now if item.now is not None else item.effect, rows, sizes)
