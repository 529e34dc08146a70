"""How a declared split moves with the clock: a split by dates keeps its lengths and ends at the moment of the training. Pure.

Enters: a splitter's parameters as a document, and a moment. Leaves: the parameters at that moment. A split by shares, or by a
splitter of a user's own, stays as it is: it sees only rows that were known by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from engine.clock import isoformat
from engine.keys import Json

_DATES = ("train_until", "validation_until", "test_until")


def split_at(params: Any, moment: datetime) -> Json:
    """Give the parameters at a moment.

    >>> split_at({"train_until": "2013-09-01", "validation_until": "2013-10-01", "test_until": None},
    ...          datetime(2013, 6, 1, tzinfo=UTC))["train_until"]
    '2013-04-02T00:00:00.000000Z'
    """
    lengths = lengths_of(params)
    if lengths is None:
        return dict(params) if isinstance(params, Mapping) else params
    validation, test = lengths
    moved: dict[str, Json] = {
        **params,
        "test_until": isoformat(moment),
        "train_until": isoformat(moment - test - validation),
    }
    moved["validation_until"] = isoformat(moment - test) if validation else None
    return moved


def lengths_of(params: Any) -> tuple[timedelta, timedelta] | None:
    """Give how long validation and test of a split by dates are; `None` for any other split.

    A test that is open at its end is taken to be as long as the validation.
    """
    if not isinstance(params, Mapping) or not params.get("train_until"):
        return None
    train, validation, test = (_moment(params.get(name)) for name in _DATES)
    if train is None:
        return None
    middle = validation or train
    length = middle - train
    after = test - middle if test is not None else length
    return (length, after) if after > timedelta(0) else None


def words_of(params: Any) -> str | None:
    """Say how a split by dates is moved.

    >>> words_of({"train_until": "2013-09-01", "validation_until": "2013-10-01"})
    'the split by dates moves with the clock: before each training 30 days of validation and 30 days of test'
    """
    lengths = lengths_of(params)
    if lengths is None:
        return None
    validation, test = (f"{length / timedelta(days=1):g} days" for length in lengths)
    return (
        f"the split by dates moves with the clock: before each training {validation} of validation and {test} of test"
    )


def _moment(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
