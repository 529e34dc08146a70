"""The training of a moment: the ordinary training, with the CPU seconds that it took among its notes.

Notes are no part of a result's identity, so a model trained again on the same rows is the same model, whatever it cost.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping

from engine.contracts import Work
from engine.keys import Json
from engine.nodes.train import train_model


def train(work: Work) -> Mapping[str, Json]:
    """Fit as a run would; raises what a training raises."""
    before = _cpu_seconds()
    notes = train_model(work)
    return {**notes, "cpu_seconds": _cpu_seconds() - before}


def _cpu_seconds() -> float:
    """CPU seconds of this process and of the children that it waited for: a trainer may start some."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(item.ru_utime + item.ru_stime for item in used)
