"""One evaluation of a pipeline's triggers: ask each, decide, and say what is remembered afterwards. Pure.

Enters: all that is known of a pipeline at a moment. Leaves: opinions, the decision and the next memory. Called by the tick,
which writes them down, and by the backtest, whose clock is simulated: what history shows is what the tick would have done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from engine.loop.decide import Decision, Situation, decide
from engine.loop.gather import Known, opinions_of, past_of, suspects_of
from engine.loop_contracts import Opinion
from engine.loop_records import TriggerMemory


@dataclass(frozen=True, slots=True)
class Judged:
    """What one evaluation gave; `subject` is empty when nothing waits, and so nothing had to be identified."""

    opinions: Mapping[str, Opinion]
    decision: Decision
    memory: TriggerMemory
    subject: str


def judge(known: Known, identify: Callable[[], str]) -> Judged:
    """Evaluate every trigger and the policy; `identify` gives the subject (data, code, configuration) when it is needed."""
    declaration, memory = known.declaration, known.memory
    opinions = opinions_of(known)
    heard = {name: item for name, item in opinions.items() if declaration.specs[name].alone or not item.fired}
    waits = memory.waiting is not None or any(item.fired for item in heard.values())
    past = replace(past_of(known, identify() if waits else ""), suspects=suspects_of(known, opinions))
    situation = Situation(declaration.pipeline, declaration.declared.retrain, known.now, past)
    decision = decide(heard, memory.waiting, situation)
    return Judged(opinions, decision, remember(memory, opinions, decision), past.subject)


def remember(memory: TriggerMemory, opinions: Mapping[str, Opinion], decision: Decision) -> TriggerMemory:
    """Give the memory after a decision: the cursor of a patient trigger stays until its own run can be launched."""
    patient = {name for name, item in opinions.items() if item.fired and name not in decision.consumed}
    cursors = {name: dict(item.cursor) for name, item in opinions.items() if name not in patient}
    return msgspec.structs.replace(
        memory, cursors=memory.cursors | cursors, waiting=decision.wish, last_action=decision.action, quiet=0
    )
