"""How a version that passed its gates reaches callers: beside the champion, for a share of them, or not at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import msgspec

from engine.spec.base import Duration, Fraction, Identifier, NonNegativeInt, PositiveInt, Spec


class RolloutStep(Spec, frozen=True, kw_only=True):
    """One step of a ramp: the challenger's `share` of entities (0 is shadow), held at least that long and for that many labels."""

    share: Fraction
    hold: Duration = "0s"
    min_labels: NonNegativeInt = 100


class RolloutSpec(Spec, frozen=True, kw_only=True):
    """A rollout, declared. Without it, a version that passes its gates holds the alias at once.

    `entity` names the request fields whose salted hash decides, so that one entity always gets one model. Steps are taken
    in order; shares never fall, so a ramp reassigns only those who join. `loss` compares labelled answers by an always-valid
    confidence sequence at `level`: the challenger is rolled back as soon as it is surely worse by more than `breach`, and
    promoted at the last step once it is surely not worse by more than `margin`. With `on_success: hold` a person promotes.
    `max_without_score` is the share of answers without a finite score from which the challenger is rolled back.
    """

    entity: tuple[Identifier, ...] | Identifier
    steps: Annotated[tuple[RolloutStep, ...], msgspec.Meta(min_length=1)]
    salt: str | None = None
    loss: Literal["log_loss", "brier", "squared_error", "absolute_error"] = "brier"
    level: Annotated[float, msgspec.Meta(gt=0, lt=0.5)] = 0.05
    margin: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    breach: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    max_without_score: Fraction = 0.01
    on_success: Literal["promote", "hold"] = "promote"
    judge_every: Duration = "1m"
    shadow_queue: PositiveInt = 4096

    def __post_init__(self) -> None:
        """Refuse a ramp that would take entities away again."""
        shares = [step.share for step in self.steps]
        if any(after < before for before, after in pairwise(shares)):
            raise ValueError("the shares of `steps` never fall: a ramp only adds entities")

    @property
    def fields(self) -> tuple[str, ...]:
        """The entity's request fields."""
        return (self.entity,) if isinstance(self.entity, str) else self.entity
