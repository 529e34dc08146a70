"""Splitters `time_forward` and `random`: which rows train, which stop the training, which judge it.

Enters: rows with `row_id`, `event_time`, `label_known_at` and the request's fields. Leaves: a part for each row, in
their order. Called by the `split` node. This module holds the parameters and is all that planning imports.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec

from engine.components import Component, Params
from engine.contracts import Splitter
from engine.spec.base import Duration, Identifier

_Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Moment = Annotated[
    str, msgspec.Meta(description="RFC 3339, or a date (its first moment, UTC)", examples=["2013-09-01"])
]


class TimeForwardParams(Params, frozen=True, kw_only=True):
    """Train on the past, judge on the future: by moments (each the first that is left out), or by shares of the rows.

    Without moments, the last `test` share of the rows in time order is the test, and the `validation` share before it.
    The last `embargo` before each boundary is left out. So are training rows whose label became known only after the
    training's end, and validation rows whose label became known after the validation's: who trained then had not got
    them.
    """

    train_until: Moment | None = None
    validation_until: Moment | None = None
    test_until: Moment | None = None
    validation: _Share | None = None
    test: _Share | None = None
    embargo: Duration = "0s"

    def __post_init__(self) -> None:
        """Refuse moments that cannot be read or are out of order, and moments together with shares."""
        moments = {name: getattr(self, name) for name in ("train_until", "validation_until", "test_until")}
        given = {name: parse_moment(name, text) for name, text in moments.items() if text is not None}
        if given and (self.validation is not None or self.test is not None):
            raise ValueError("give moments (`train_until`, …) or shares (`validation`, `test`), not both")
        if given and self.train_until is None:
            raise ValueError("`train_until` is missing: where the training ends, validation or test begins")
        if list(given.values()) != sorted(set(given.values())):
            raise ValueError(f"{' < '.join(given)} must rise: {', '.join(str(moments[name]) for name in given)}")
        check_shares(*self.shares)

    @property
    def shares(self) -> tuple[float, float]:
        """Shares of validation and test, by default 15 % and 20 %."""
        return 0.15 if self.validation is None else self.validation, 0.2 if self.test is None else self.test


class RandomParams(Params, frozen=True, kw_only=True):
    """Split by a hash of `by` (by default the row's id), so a row stays where it is when others come and go.

    For rows without an order in time only: where there is one, this lets the model train on the future of its test.
    """

    validation: _Share = 0.15
    test: _Share = 0.2
    by: Identifier = "row_id"
    salt: str = ""

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on."""
        check_shares(self.validation, self.test)


class GroupParams(Params, frozen=True, kw_only=True):
    """Keep all rows of one `by` (a request field, as a customer) in one part, chosen by a hash of it."""

    by: Identifier
    validation: _Share = 0.15
    test: _Share = 0.2
    salt: str = ""

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on."""
        check_shares(self.validation, self.test)


class StratifiedParams(Params, frozen=True, kw_only=True):
    """Cut the same shares of every value of `by` (the label, or a request field). For rows without an order in time only."""

    by: Identifier = "label"
    validation: _Share = 0.15
    test: _Share = 0.2
    salt: str = ""

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on."""
        check_shares(self.validation, self.test)


class RollingParams(Params, frozen=True, kw_only=True):
    """Stand at an origin: the test is the `horizon` after it, the `validation` lies before it, the training before that.

    Origins end with the data and go `back` in steps (of a horizon, by default). `window` is how far the training reaches back;
    without it, to the beginning. Rows whose label was not known at the end of their part are left out, and so is the last
    `embargo` before the validation and before the test.
    """

    horizon: Duration = "30d"
    validation: Duration = "30d"
    window: Duration | None = None
    step: Duration | None = None
    back: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    embargo: Duration = "0s"


class PurgedParams(Params, frozen=True, kw_only=True):
    """Test on block `fold` of `folds` blocks of time (equal in rows), stop by its neighbour, train on the others.

    Purged (López de Prado 2018): a training row whose label, from its event until it is known, reaches into the test or the
    validation is left out, and so are rows less than `embargo` after them.
    """

    folds: Annotated[int, msgspec.Meta(ge=3, le=100)] = 5
    fold: Annotated[int, msgspec.Meta(ge=0, le=99)] = 4
    embargo: Duration = "0s"

    def __post_init__(self) -> None:
        """Refuse a fold that is not there."""
        if self.fold >= self.folds:
            raise ValueError(f"`fold` counts from 0, so with {self.folds} folds the last is {self.folds - 1}")


def parse_moment(name: str, text: str) -> datetime:
    """Read RFC 3339 or a date as UTC; raises `ValueError` that names the parameter.

    >>> parse_moment("train_until", "2013-09-01").isoformat()
    '2013-09-01T00:00:00+00:00'
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"`{name}`: {text!r} is not a moment; write 2013-09-01 or 2013-09-01T06:00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def check_shares(validation: float, test: float) -> None:
    """Raise `ValueError` for shares without a test, or without rows left to train on."""
    if test <= 0:
        raise ValueError("`test` must be more than 0: without test rows nothing can be judged")
    if validation + test >= 1:
        raise ValueError(f"`validation` {validation:g} and `test` {test:g} leave no rows to train on")


def build_time_forward(params: TimeForwardParams) -> Splitter:
    """Make the splitter `time_forward`."""
    from .splitters import TimeForward  # noqa: PLC0415 - start-up: planning does not need polars

    return TimeForward(params)


def build_random(params: RandomParams) -> Splitter:
    """Make the splitter `random`."""
    from .splitters import RandomByHash  # noqa: PLC0415 - start-up: planning does not need polars

    return RandomByHash(params)


def build_group(params: GroupParams) -> Splitter:
    """Make the splitter `group`."""
    return build_random(RandomParams(validation=params.validation, test=params.test, by=params.by, salt=params.salt))


def build_stratified(params: StratifiedParams) -> Splitter:
    """Make the splitter `stratified`."""
    from .folds import Stratified  # noqa: PLC0415 - start-up: planning does not need polars

    return Stratified(params)


def build_rolling(params: RollingParams) -> Splitter:
    """Make the splitter `rolling_origin`."""
    from .folds import RollingOrigin  # noqa: PLC0415 - start-up: planning does not need polars

    return RollingOrigin(params)


def build_purged(params: PurgedParams) -> Splitter:
    """Make the splitter `purged`."""
    from .folds import Purged  # noqa: PLC0415 - start-up: planning does not need polars

    return Purged(params)


def components() -> tuple[Component, ...]:
    """Contribute the splitters."""
    return (
        Component("splitter", "group", GroupParams, build_group, ("polars",), "all rows of one entity together"),
        Component(
            "splitter", "stratified", StratifiedParams, build_stratified, ("polars",), "the same shares of each value"
        ),
        Component(
            "splitter", "rolling_origin", RollingParams, build_rolling, ("polars",), "one of several origins in time"
        ),
        Component(
            "splitter", "purged", PurgedParams, build_purged, ("polars",), "a block of time, purged and embargoed"
        ),
        Component("splitter", "time_forward", TimeForwardParams, build_time_forward, ("polars",), "past and future"),
        Component("splitter", "random", RandomParams, build_random, ("polars",), "by a salted hash of an id"),
    )
