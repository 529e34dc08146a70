"""The simulated clock: which moments there are, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backtest.moments import Asked, choose_moments
from engine.errors import UsageError

FIRST, LAST = datetime(2024, 1, 1, 7, tzinfo=UTC), datetime(2024, 12, 30, 22, tzinfo=UTC)


def day(text: str) -> datetime:
    """Read a day."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(hours=st.integers(min_value=13, max_value=24 * 40), start=st.integers(2, 200), length=st.integers(60, 160))
def test_periods_cover_the_time_that_is_asked_for_without_gap_or_overlap(hours: int, start: int, length: int) -> None:
    """The first begins at `--from`, each where the one before ended, the last ends at `--to` at the latest."""
    asked = Asked(FIRST + timedelta(days=start), FIRST + timedelta(days=start + length), f"{hours}h")
    found = choose_moments(FIRST, LAST, asked)
    ends = [found.end_of(index) for index in range(len(found.at))]
    assert found.at[0] == asked.start
    assert list(found.at[1:]) == ends[:-1]
    assert all(start < end <= start + timedelta(hours=hours) for start, end in zip(found.at, ends, strict=True))
    assert ends[-1] == min(FIRST + timedelta(days=start + length), day("2024-12-31"))


def test_without_an_end_only_whole_periods_are_compared() -> None:
    """A last period of three days would be compared with weeks."""
    found = choose_moments(FIRST, LAST, Asked(day("2024-06-03")))
    assert found.end - found.at[-1] == timedelta(days=7)
    assert found.end <= day("2024-12-31")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(day("2023-12-01")), "no rows to train"),
        (Asked(day("2025-02-01")), "no rows to score"),
        (Asked(day("2024-06-03"), day("2024-06-08")), "no second decision"),
        (Asked(day("2024-06-03"), None, "5m"), "too many"),
        (Asked(day("2024-06-03"), None, "0s"), "time has to pass"),
    ],
)
def test_what_leaves_nothing_to_compare_is_refused_in_words(asked: Asked, words: str) -> None:
    """Each says what the history is, or what to do."""
    with pytest.raises(UsageError, match=words):
        choose_moments(FIRST, LAST, asked)
