"""The guard after a promotion: it cries wolf no more often than it says, and finds a version that was good at first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from engine.spec import GuardSpec
from engine.spec.monitoring import ChunkSpec
from engine.watch.guarding import Paired, chunk_starts, worst_stretch

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS, A_DAY = 20, 100


def paired(worse: np.ndarray, seed: int) -> Paired:
    """Losses that have much in common; ours is `worse` (n,) on average."""
    random = np.random.default_rng(seed)
    theirs = random.gamma(2.0, 0.1, len(worse))
    ours = theirs + worse + random.normal(0, 0.05, len(worse))
    times = [START + index * timedelta(days=1) / A_DAY for index in range(len(worse))]
    return Paired(ours, theirs, pl.Series(times, dtype=pl.Datetime("us", "UTC")))


def alarms(rows: Paired, rule: GuardSpec) -> bool:
    """Look every day, as ticks do."""
    for day in range(1, DAYS + 1):
        seen = Paired(rows.ours[: day * A_DAY], rows.theirs[: day * A_DAY], rows.known[: day * A_DAY])
        found = worst_stretch(seen, rule, chunk_starts(seen.known, ChunkSpec(by="day")))
        if found.bounds.low > found.limit:
            return True
    return False


def test_equal_versions_are_hardly_ever_told_apart_however_often_one_looks() -> None:
    rule = GuardSpec(worse_by=0.0, level=0.1)
    assert sum(alarms(paired(np.zeros(DAYS * A_DAY), seed), rule) for seed in range(50)) <= 5


def test_a_version_that_is_worse_than_allowed_is_found_and_one_that_is_as_bad_as_allowed_is_not() -> None:
    assert alarms(paired(np.full(DAYS * A_DAY, 0.02), 1), GuardSpec())
    assert not alarms(paired(np.full(DAYS * A_DAY, 0.02), 1), GuardSpec(worse_by=0.12))


def test_what_was_good_at_first_does_not_make_up_for_what_it_is_now() -> None:
    worse = np.where(np.arange(DAYS * A_DAY) < 15 * A_DAY, -0.05, 0.05)
    rows = paired(worse, 2)
    assert rows.difference.mean() < 0
    assert alarms(rows, GuardSpec())


@pytest.mark.parametrize(("by", "starts"), [("day", 20), ("week", 3), ("hour", 20), ("5d", 5), ("month", 1)])
def test_stretches_begin_with_chunks(by: str, starts: int) -> None:
    found = chunk_starts(paired(np.zeros(DAYS * A_DAY), 3).known, ChunkSpec(by=by))
    assert (found[0], len(found)) == (0, starts)


def test_without_rows_nothing_is_known() -> None:
    nothing = paired(np.zeros(0), 4)
    found = worst_stretch(nothing, GuardSpec(), chunk_starts(nothing.known, ChunkSpec()))
    assert (found.bounds.n, np.isneginf(found.bounds.low)) == (0, True)
