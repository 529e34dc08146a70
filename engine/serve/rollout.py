"""A rollout inside a server: which lane answers which row, and what goes to the shadow.

Enters: the rollout's state from the ledger. Leaves: a `Router` beside the lanes. Called by the watch, which replaces lanes and
router together, so that a batch sees either the old ones or the new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.records import RolloutState
from engine.serve.buckets import bucket_of, is_in
from engine.serve.schema import Rows
from engine.stores.rollouts import spec_of

_KEPT = 200_000


@dataclass
class SplitRouter:
    """Sends the share's entities to the challenger (lane 1), and everybody else to the champion (lane 0).

    With `shadow`, the challenger answers nobody: every row is offered to `send`, which drops what it cannot take.
    """

    fields: tuple[str, ...]
    salt: str
    share: float
    shadow: bool = False
    send: Callable[[Rows], None] = lambda _: None
    _known: dict[tuple[Any, ...], int | None] = field(default_factory=dict)

    def assign(self, rows: Rows) -> Sequence[int] | None:
        """The lane of each row; `None` when all go to the champion."""
        if self.shadow or self.share <= 0:
            return None
        entities = zip(*(rows.columns[name] for name in self.fields), strict=True)
        return [int(is_in(self._bucket(entity), self.share)) for entity in entities]

    def observe(self, rows: Rows) -> None:
        """Offer what was answered to the shadow."""
        if self.shadow:
            self.send(rows)

    def _bucket(self, entity: tuple[Any, ...]) -> int | None:
        """Hashing costs more than remembering; what is remembered is bounded."""
        found = self._known.get(entity, -1)
        if found == -1:
            if len(self._known) >= _KEPT:
                self._known.clear()
            found = self._known[entity] = bucket_of(self.salt, entity)
        return found


def router_of(state: RolloutState, send: Callable[[Rows], None]) -> SplitRouter:
    """The router of a rollout as it is: a share of 0 is shadow, and a pause sends nothing anywhere."""
    running = state.status == "running"
    return SplitRouter(spec_of(state).fields, state.salt, state.share, running and state.share == 0, send)


def challenger_arm(state: RolloutState) -> str:
    """What the log calls the challenger's answers."""
    return "shadow" if state.share == 0 else "challenger"


def describe(state: RolloutState) -> Mapping[str, Any]:
    """For people: where it is."""
    spec = spec_of(state)
    return {
        "challenger": f"{state.model}:{state.challenger}",
        "champion": f"{state.model}:{state.champion}",
        "status": state.status,
        "step": f"{state.step + 1} of {len(spec.steps)}",
        "share": state.share,
    }
