"""How a declared split moves with the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.backtest.splitting import lengths_of, split_at, words_of
from engine.clock import isoformat

MOMENT = datetime(2024, 6, 1, tzinfo=UTC)
DAYS = st.integers(1, 400)


@given(validation=DAYS, test=DAYS)
def test_a_split_by_dates_keeps_its_lengths_and_ends_at_the_moment(validation: int, test: int) -> None:
    """Whatever the dates were."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    dates = [start, start + timedelta(days=validation), start + timedelta(days=validation + test)]
    names = ("train_until", "validation_until", "test_until")
    moved = split_at({**dict(zip(names, map(isoformat, dates), strict=True)), "embargo": "1d"}, MOMENT)
    assert isinstance(moved, dict)
    assert moved["test_until"] == isoformat(MOMENT)
    assert moved["embargo"] == "1d"
    assert lengths_of(moved) == (timedelta(days=validation), timedelta(days=test))


def test_a_split_by_shares_stays_as_it_is() -> None:
    """It sees only the rows that were known, so its shares are of those."""
    params = {"train_until": None, "validation": 0.1, "test": 0.2}
    assert split_at(params, MOMENT) == params
    assert words_of(params) is None
    assert split_at({"by": "user", "test": 0.2}, MOMENT) == {"by": "user", "test": 0.2}
