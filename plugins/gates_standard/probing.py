"""Parameters of the gates that have something measured of their own: behaviour, leakage, fairness, latency, size, training.

Planning imports this: `demands()` says which probe a gate needs and what it is asked. Requirements stay here, so that
changing one measures nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from engine.components import Params
from engine.spec.base import Fraction, Identifier, PositiveInt, SqlText
from engine.spec.features import Scalar
from engine.spec.probes import (
    BehaviourProbe,
    ColumnsProbe,
    LatencyProbe,
    LeakageCheck,
    LeakageProbe,
    ParityProbe,
    Probe,
    SizeProbe,
    TrainingProbe,
)

_NonNegative = Annotated[float, msgspec.Meta(ge=0)]
_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Level = Annotated[float, msgspec.Meta(gt=0.5, lt=1)]


class _Behaviour(Params, frozen=True, kw_only=True):
    """What behaviour tests share.

    Rows are test rows that satisfy `where`, at most `sample`, or the requests under `rows`. At most `max_failures` of
    them may fail; above 0 it is held against the upper bound of the exact interval.
    """

    where: SqlText | None = None
    rows: tuple[dict[str, Scalar | None], ...] = ()
    sample: PositiveInt = 500
    max_failures: Fraction = 0.0
    output: str | None = None
    level: _Level = 0.95

    def check_rows(self) -> None:
        """Refuse rows that are both written down and searched for."""
        if self.rows and self.where is not None:
            raise ValueError("say `rows`, or `where` to find them among the test rows, not both")

    def asked(self, test: str, **more: Any) -> Mapping[str, Probe]:
        """Give the probe's question."""
        shared = {"where": self.where, "rows": self.rows, "sample": self.sample, "output": self.output}
        return {"behaviour": BehaviourProbe(test=test, **shared, **more)}  # type: ignore[arg-type]


class MftParams(_Behaviour, frozen=True, kw_only=True):
    """Minimum functionality: on such rows the prediction is `at_least` and `at_most` this. `change` sets the scene first."""

    change: dict[str, SqlText] = {}
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        """Refuse a test that nothing or everything passes."""
        self.check_rows()
        if self.at_least is None and self.at_most is None:
            raise ValueError("a minimum functionality test needs `at_least` or `at_most`")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"`at_least` {self.at_least:g} is above `at_most` {self.at_most:g}")
        if self.where is None and not self.rows and not self.change:
            raise ValueError("say which rows: `where`, `rows`, or what `change` makes of test rows")

    def demands(self) -> Mapping[str, Probe]:
        """Ask for the predictions."""
        return self.asked("mft", change=self.change, at_least=self.at_least, at_most=self.at_most)


class InvParams(_Behaviour, frozen=True, kw_only=True):
    """Invariance: after the `change` of what should not matter, the prediction is the same within `tolerance`."""

    change: Annotated[dict[str, SqlText], msgspec.Meta(min_length=1)]
    tolerance: _NonNegative = 0.0

    def __post_init__(self) -> None:
        """Refuse rows that are both written down and searched for."""
        self.check_rows()

    def demands(self) -> Mapping[str, Probe]:
        """Ask for predictions before and after."""
        return self.asked("inv", change=self.change, tolerance=self.tolerance)


class DirParams(_Behaviour, frozen=True, kw_only=True):
    """Direction: after the `change`, the prediction moves `up` or `down` by at least `by` (0: it does not move back)."""

    change: Annotated[dict[str, SqlText], msgspec.Meta(min_length=1)]
    direction: Literal["up", "down"]
    by: _NonNegative = 0.0

    def __post_init__(self) -> None:
        """Refuse rows that are both written down and searched for."""
        self.check_rows()

    def demands(self) -> Mapping[str, Probe]:
        """Ask for predictions before and after."""
        return self.asked("dir", change=self.change, direction=self.direction, by=self.by)


class LeakageParams(Params, frozen=True, kw_only=True):
    """Training did not know the answers.

    `duplicates`: test rows that are training rows under another id (`max_duplicates` of them, same moment; `max_alike`,
    any moment, beyond what training rows have among themselves). `entities`: rows whose `entity` is on both sides.
    `future`: features that differ when only what was known then is there. `proxies`: columns that alone rank the label
    better than `max_single` (area, or |rank correlation|). `ids`: columns that name rows. `allow` are columns let pass.
    """

    checks: tuple[LeakageCheck, ...] = ("duplicates", "future", "proxies", "ids")
    entity: Identifier | None = None
    max_duplicates: Fraction = 0.001
    max_alike: Fraction = 0.05
    max_entity_overlap: Fraction = 0.0
    max_single: Annotated[float, msgspec.Meta(gt=0.5, le=1)] = 0.95
    max_distinct: Fraction = 0.95
    allow: tuple[Identifier, ...] = ()
    moments: PositiveInt = 5

    def __post_init__(self) -> None:
        """Refuse a check that lacks what it is about, and a gate without checks."""
        if not self.checks:
            raise ValueError("a leakage gate needs at least one of `checks`")
        if ("entities" in self.checks) != (self.entity is not None):
            raise ValueError("`checks: [entities]` and `entity` (the column) go together")

    def demands(self) -> Mapping[str, Probe]:
        """Ask for counts and measures."""
        return {"leakage": LeakageProbe(checks=self.checks, entity=self.entity, moments=self.moments)}


class FairnessParams(Params, frozen=True, kw_only=True):
    """Groups (values of `group`) are treated alike: no two differ by more than `max_gap`, nor in ratio below `min_ratio`.

    Measures of a decision (prediction at least `threshold`): `demographic_parity` (decided yes), `equal_opportunity` (of
    the positives), `false_positive_rate` (of the negatives), `equalized_odds` (both), `predictive_parity` (positives
    among the decided), `accuracy`. Measures of the number itself: `calibration` (prediction less label), `mean_prediction`.
    Groups with fewer than `min_rows` rows that count are named, and do not judge.
    """

    group: Identifier
    measure: Literal[
        "demographic_parity", "equal_opportunity", "false_positive_rate", "equalized_odds", "predictive_parity",
        "accuracy", "calibration", "mean_prediction",
    ] = "demographic_parity"  # fmt: skip
    max_gap: _NonNegative | None = None
    min_ratio: Fraction | None = None
    threshold: float = 0.5
    min_rows: PositiveInt = 100
    level: _Level = 0.95

    def __post_init__(self) -> None:
        """Refuse a gate that asks for nothing, and ratios of what has none."""
        if self.max_gap is None and self.min_ratio is None:
            raise ValueError("a fairness gate needs `max_gap` or `min_ratio`")
        if self.min_ratio is not None and self.measure in ("calibration", "mean_prediction"):
            raise ValueError(f"`min_ratio` is of shares, and {self.measure} is none: use `max_gap`")

    def demands(self) -> Mapping[str, Probe]:
        """Ask for the group of each row."""
        return {"columns": ColumnsProbe(names=(self.group,))}


class LatencyParams(Params, frozen=True, kw_only=True):
    """Scoring `rows` rows takes at most `max_ms` milliseconds at the `quantile`; by the upper bound of its interval.

    That is encoding and predicting in one thread, with the features given. Measured where the run ran.
    """

    max_ms: _Positive
    quantile: Annotated[float, msgspec.Meta(ge=0.5, lt=1)] = 0.95
    rows: PositiveInt = 1
    calls: Annotated[int, msgspec.Meta(ge=20, le=100_000)] = 200
    level: _Level = 0.95

    def demands(self) -> Mapping[str, Probe]:
        """Ask for times."""
        return {"latency": LatencyProbe(rows=self.rows, calls=self.calls)}


class SizeParams(Params, frozen=True, kw_only=True):
    """The model's own files are at most `max_mb` megabytes (of a million bytes)."""

    max_mb: _Positive

    def demands(self) -> Mapping[str, Probe]:
        """Ask for bytes."""
        return {"size": SizeProbe()}


class TrainingParams(Params, frozen=True, kw_only=True):
    """The trainer learns: one step on `sample` rows lowers the loss, `batch` rows are learnt by heart, files keep scores.

    By heart means that the loss falls to at most `max_loss` of what a constant has.
    """

    batch: PositiveInt = 32
    sample: PositiveInt = 5000
    max_loss: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5

    def demands(self) -> Mapping[str, Probe]:
        """Ask for small trainings."""
        return {"training": TrainingProbe(batch=self.batch, sample=self.sample)}


class ParityParams(Params, frozen=True, kw_only=True):
    """Serving computes what training used, to the last bit.

    At most `rows` rows are computed again, each alone, by the model's own program, from a state that got the events they can
    see (at most `events`; always one row's) out of order. No bit may differ.
    """

    rows: PositiveInt = 40
    events: PositiveInt = 15_000

    def demands(self) -> Mapping[str, Probe]:
        """Ask for a replay."""
        return {"parity": ParityProbe(rows=self.rows, events=self.events)}
