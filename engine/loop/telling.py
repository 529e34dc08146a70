"""What each trigger of a pipeline is at: its next moment, what it said last, whether it is paused. Called by `engine triggers ls`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from engine.clock import isoformat
from engine.loop.declarations import Declaration
from engine.loop.slots import Schedule, next_slot
from engine.loop_records import TriggerState
from engine.stores.loop_state import LoopState, remembered


def states_of_triggers(declaration: Declaration, state: LoopState, now: datetime) -> Iterator[TriggerState]:
    """Give the triggers in order; raises `IntegrityError` when what is remembered cannot be read."""
    memory = remembered(state.memories(), declaration.pipeline)
    last = {item.trigger: item for entry in state.history(declaration.pipeline) for item in entry.decision.opinions}
    for name, spec in declaration.specs.items():
        slot = None
        if spec.kind == "cron":
            slot = next_slot(
                Schedule(getattr(spec.params, "schedule", ""), getattr(spec.params, "timezone", "UTC")), now
            )
        yield TriggerState(
            pipeline=declaration.pipeline,
            trigger=name,
            kind=spec.kind,
            paused=memory.paused or memory.paused_triggers.get(name),
            fired=last[name].fired if name in last else None,
            why=last[name].why if name in last else "nothing was decided yet",
            next=isoformat(slot) if slot else None,
            cursor=memory.cursors.get(name, {}),
        )
