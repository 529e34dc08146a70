"""Which runs a decision asks for: to look at what is new, to diagnose what failed, to train. Pure but for what sources hold.

Enters: what is known of a pipeline at a moment. Leaves: a `RunRequest`, whose key identifies its occasion, or nothing. Called
by `tick`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from engine.clock import EPOCH, isoformat
from engine.durations import microseconds
from engine.keys import digest
from engine.loop.decide import Decision
from engine.loop.declarations import Declared, subject_of
from engine.loop.gather import Known, latest_observation, past_of
from engine.loop_records import RunRequest, TriggerMemory
from engine.stores.loop_state import OPEN

_DAY = timedelta(days=1)


def subject(known: Known, *, simulated: bool) -> str:
    """Identify data, code and configuration; in a simulation the moment is a part of the data."""
    return subject_of(known.declaration, isoformat(known.now) if simulated else None)


def ask_to_observe(known: Known, *, simulated: bool) -> tuple[RunRequest, TriggerMemory] | None:
    """Ask for new data to be ingested and monitors to be run, when something changed or a chunk may be whole by now.

    The last look has to be old enough; one that failed is done again. Gives the memory that goes with the request.
    """
    declared, memory = known.declaration.declared, known.memory
    if not known.declaration.observes or memory.paused or any(item.state in OPEN for item in known.requests):
        return None
    seen = datetime.fromisoformat(memory.observed_at) if memory.observed_at else None
    if seen is not None and known.now < seen + timedelta(microseconds=microseconds(declared.retrain.observe)):
        return None
    content, period = subject(known, simulated=simulated), _period(declared, known.now)
    looked = [item for item in known.requests if item.kind == "observe"]
    failed = bool(looked) and looked[-1].state == "failed"
    changed, elapsed = memory.observed.get("subject") != content, memory.observed.get("period", "") != period
    if not (changed or elapsed or failed):
        return None
    if seen is None:
        why = "nothing was observed yet"
    elif changed:
        why = "sources, code or configuration changed"
    else:
        why = "the last look failed" if failed else f"monitors are due: {period} began"
    now = isoformat(known.now)
    request = RunRequest(
        key=digest({"observe": known.declaration.pipeline, "at": now}), pipeline=known.declaration.pipeline, kind="observe",
        reasons={"observe": why}, overrides=declared.retrain.overrides, created_at=now, as_of=now if simulated else None,
        subject=content,
    )  # fmt: skip
    observed = memory.observed | {"subject": content, "period": period}
    return request, msgspec.structs.replace(memory, observed=observed, observed_at=now, last_action="observe", quiet=0)


def ask_to_diagnose(known: Known, *, simulated: bool) -> tuple[RunRequest, TriggerMemory] | None:
    """Ask once for a diagnosis of data that failed its audit, whatever the triggers say."""
    seen, memory = latest_observation(known.requests), known.memory
    if seen is None or not seen.quarantined or memory.paused or any(item.state in OPEN for item in known.requests):
        return None
    what = digest({"sources": list(seen.quarantined), "subject": seen.subject})
    if memory.observed.get("diagnosed") == what:
        return None
    now = isoformat(known.now)
    request = RunRequest(
        key=digest({"diagnose": known.declaration.pipeline, "what": what}), pipeline=known.declaration.pipeline,
        kind="diagnose", reasons={"quarantine": f"{', '.join(seen.quarantined)}: new data failed its audit"},
        overrides=known.declaration.declared.retrain.overrides, created_at=now, as_of=now if simulated else None,
        subject=seen.subject,
    )  # fmt: skip
    observed = memory.observed | {"diagnosed": what}
    return request, msgspec.structs.replace(memory, observed=observed, last_action="diagnose", quiet=0)


def ask_to_run(known: Known, made: Decision, content: str, *, simulated: bool) -> RunRequest | None:
    """Ask for the run that a decision launches."""
    if made.launched is None or made.key is None:
        return None
    declared, now = known.declaration.declared, isoformat(known.now)
    quarantined = past_of(known, "").quarantined if made.launched.intent == "train" else ()
    return RunRequest(
        key=made.key, pipeline=known.declaration.pipeline, kind=made.launched.intent, reasons=dict(made.launched.reasons),
        overrides=(*declared.retrain.overrides, *(f"sources.{name}.ref=main" for name in quarantined)), created_at=now,
        as_of=now if simulated else None, subject=content,
    )  # fmt: skip


def _period(declared: Declared, now: datetime) -> str:
    """Name the stretch of time in which monitors look once at unchanged data: a chunk's length, a day at most."""
    if declared.watch is None:
        return ""
    length = min(chunk_length(declared.watch), _DAY)
    return isoformat(EPOCH + (now - EPOCH) // length * length)


def chunk_length(by: str) -> timedelta:
    """Give about how long a chunk is.

    >>> chunk_length("week").days, chunk_length("6h").seconds
    (7, 21600)
    """
    calendar = {"month": 31, "week": 7, "day": 1, "hour": 1 / 24}
    return timedelta(days=calendar[by]) if by in calendar else timedelta(microseconds=microseconds(by))
