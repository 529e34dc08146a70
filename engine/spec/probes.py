"""What a gate may ask to have measured beyond the evaluation: one class a probe, filled by the gate's own parameters.

A gate's `Params.demands()` gives these by the probe's name; the planner adds a node for each probe that somebody demands,
and the gate finds its answer in `Evidence.probes`. Requirements (how much is too much) stay with the gate, so that
changing one measures nothing again.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from engine.spec.base import Identifier, PositiveInt, Spec, SqlText
from engine.spec.features import Scalar

LeakageCheck: TypeAlias = Literal["duplicates", "entities", "future", "proxies", "ids"]
BehaviourTest: TypeAlias = Literal["mft", "inv", "dir"]


class BehaviourProbe(Spec, frozen=True, kw_only=True):
    """Score request rows, and with `change` score them again with some fields or features replaced by expressions.

    The rows are test rows that satisfy `where` (at most `sample`, chosen by a hash of their ids), or the `rows` written
    down here, each with its `event_time`. A row passes when its prediction is within `at_least` and `at_most` (`mft`),
    moves by at most `tolerance` (`inv`), or moves `up` or `down` by at least `by` (`dir`; 0 also allows no move).
    """

    test: BehaviourTest
    where: SqlText | None = None
    rows: tuple[dict[str, Scalar | None], ...] = ()
    change: dict[str, SqlText] = {}
    at_least: float | None = None
    at_most: float | None = None
    tolerance: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    direction: Literal["up", "down"] = "up"
    by: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    output: str | None = None
    sample: PositiveInt = 500


class LeakageProbe(Spec, frozen=True, kw_only=True):
    """Look for ways in which training knew the answers. `entity` is the column whose values must not be on both sides."""

    checks: tuple[LeakageCheck, ...]
    entity: Identifier | None = None
    moments: PositiveInt = 5


class TrainingProbe(Spec, frozen=True, kw_only=True):
    """Train in small: one step on `sample` rows, and the whole training on `batch` rows, which it should learn by heart."""

    batch: PositiveInt = 32
    sample: PositiveInt = 5000


class LatencyProbe(Spec, frozen=True, kw_only=True):
    """Time the model on `rows` rows at once, `calls` times after warming up; features are given, not computed."""

    rows: PositiveInt = 1
    calls: Annotated[int, msgspec.Meta(ge=20, le=100_000)] = 200


class SizeProbe(Spec, frozen=True, kw_only=True):
    """Weigh the model's files."""


class ColumnsProbe(Spec, frozen=True, kw_only=True):
    """Bring columns of the test rows: request fields or features by which groups are told apart."""

    names: tuple[Identifier, ...]


class ParityProbe(Spec, frozen=True, kw_only=True):
    """Compute features of at most `rows` rows again as serving would, from at most `events` events, out of order."""

    rows: PositiveInt = 40
    events: PositiveInt = 15_000


Probe: TypeAlias = BehaviourProbe | LeakageProbe | TrainingProbe | LatencyProbe | SizeProbe | ColumnsProbe | ParityProbe
