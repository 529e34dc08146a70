"""How a server is, for `GET /readyz`, the page and the start line: what it serves, and what is not as it should be."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.serve.service import Service


class ServedModel(msgspec.Struct, frozen=True):
    """One model being served."""

    model: str
    arm: str
    package: str
    program: str


class Standing(msgspec.Struct, frozen=True):
    """`status` is ready, degraded (answers are given, and something is amiss) or draining."""

    status: str
    models: tuple[ServedModel, ...]
    log: dict[str, Any]
    state: msgspec.Raw
    notes: dict[str, str] = {}


def standing(service: Service) -> Standing:
    """Look at a service as it is now."""
    lanes = service.live.lanes
    counts = [lane.log.writer.counts for lane in lanes]
    log = {
        "rows": sum(count.rows for count in counts),
        "dropped": sum(count.dropped for count in counts),
        "unsynced_bytes": sum(lane.log.writer.unsynced for lane in lanes),
        "failure": next((count.failure for count in counts if count.failure), None),
    }
    status = (
        "draining" if service.draining else "degraded" if log["dropped"] or log["failure"] or service.notes else "ready"
    )
    models = tuple(
        ServedModel(lane.served.label, lane.arm, lane.served.version.digest, lane.served.program.digest)
        for lane in lanes
    )
    return Standing(status, models, log, msgspec.Raw(service.live.champion.door.mark().encode()), dict(service.notes))
