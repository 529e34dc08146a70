"""Frozen bins are additive and say where every row went; distances are what their definitions say."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from engine.profiling.bins import NumberBins, count_in, describe_bins, even_bins, freeze_bins, merge_counts
from engine.profiling.columns import profile_column, profile_table, shape_of
from engine.profiling.distance import column_psi, ks, psi

NUMBERS = st.lists(st.none() | st.floats(allow_nan=False, width=32), max_size=30)
WORDS = st.lists(st.none() | st.sampled_from(["a", "b", "c", ""]), max_size=30)


@pytest.mark.parametrize("freeze", [freeze_bins, even_bins])
@settings(deadline=None)
@given(NUMBERS, NUMBERS, NUMBERS)
def test_counts_add_up_over_chunks(
    freeze: object, reference: list[float], one: list[float], other: list[float]
) -> None:
    series = [pl.Series("x", values, dtype=pl.Float64) for values in (reference, one, other)]
    bins = freeze(series[0])  # type: ignore[operator]
    whole = count_in(pl.concat(series[1:]), bins)
    assert merge_counts(count_in(series[1], bins), count_in(series[2], bins)) == whole
    assert sum(whole) == len(one) + len(other)
    assert len(describe_bins(bins)) == len(whole)


@settings(deadline=None)
@given(WORDS, WORDS, WORDS)
def test_counts_of_words_add_up_over_chunks(reference: list[str], one: list[str], other: list[str]) -> None:
    series = [pl.Series("x", values, dtype=pl.String) for values in (reference, one, other)]
    bins = freeze_bins(series[0])
    assert merge_counts(count_in(series[1], bins), count_in(series[2], bins)) == count_in(pl.concat(series[1:]), bins)


def test_bins_split_the_reference_evenly_and_keep_equal_values_together() -> None:
    values = pl.Series("x", np.random.default_rng(1).normal(size=10_000))
    counts = count_in(values, freeze_bins(values))
    assert len(counts) == 11
    assert all(abs(count - 1000) <= 1 for count in counts[:-1])
    assert freeze_bins(pl.Series([1, 1, 1, 1, 2])) == NumberBins((1.0,))


def test_times_are_bins_of_moments() -> None:
    values = pl.Series("at", [datetime(2024, month, 1, tzinfo=UTC) for month in range(1, 13)])
    assert describe_bins(freeze_bins(values), times=True)[0] == "≤ 2024-02-01"


def test_psi_is_the_textbook_sum() -> None:
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.3, 0.3, 0.4])
    wanted = float(((q - p) * np.log(q / p)).sum())
    counts = [tuple(int(share * 1_000_000) for share in shares) for shares in (p, q)]
    assert psi(counts[0], counts[1]) == pytest.approx(wanted, rel=1e-4)
    assert psi((5, 0), (0, 5)) < 10  # finite


def test_ks_agrees_with_scipy() -> None:
    draw = np.random.default_rng(3)
    for _ in range(20):
        left, right = draw.integers(0, 20, 50), draw.integers(0, 25, 80)
        wanted = stats.ks_2samp(left, right).statistic
        assert ks(pl.Series(left), pl.Series(right)) == pytest.approx(wanted, abs=1e-12)


def test_psi_of_the_same_distribution_is_small_and_of_another_is_not() -> None:
    """By chance alone PSI is about (bins - 1) (1/n + 1/m) = 0.0036 here, with a standard deviation of 0.0017."""
    draw = np.random.default_rng(5)
    reference = pl.Series(draw.normal(size=5000))
    chance = [column_psi(reference, pl.Series(draw.normal(size=5000))) for _ in range(50)]
    assert 0.0025 < float(np.mean(chance)) < 0.0047
    # Half a standard deviation is 0.25 in the limit of fine bins (Jeffreys' divergence), and a little less in ten.
    assert 0.17 < column_psi(reference, pl.Series(draw.normal(0.5, 1, 5000))) < 0.25


def test_a_profile_counts_what_is_there() -> None:
    frame = pl.DataFrame({
        "x": [1.0, 2.0, None, float("nan"), 4.0], "n": [3, 3, 1, 2, 5], "code": ["AB1", "CD2", "EF3", None, "AB1"],
        "ok": [True, False, True, True, None], "at": [datetime(2024, 1, day, tzinfo=UTC) for day in range(1, 6)],
        "nothing": [None] * 5,
    })  # fmt: skip
    columns = {item.column: item for item in profile_table("t", frame, datetime(2024, 1, 1, tzinfo=UTC)).columns}
    x, n, code, at = (columns[name] for name in ("x", "n", "code", "at"))
    assert (x.nulls, x.not_finite, x.minimum, x.maximum, x.quantiles["0.5"]) == (1, 1, 1.0, 4.0, 2.0)
    assert (n.distinct, n.minimum, n.maximum, n.top[0], n.std) == (4, 1, 5, ("3", 2), pytest.approx(1.483, abs=1e-3))
    assert (code.shape, code.lengths, code.distinct) == ("AA9", (3, 3), 3)
    assert columns["ok"].top == (("true", 3), ("false", 1))
    assert (at.minimum, at.increasing, at.type) == ("2024-01-01T00:00:00.000000Z", True, "timestamp")
    assert (columns["nothing"].nulls, columns["nothing"].type) == (5, "null")


def test_a_profile_of_nothing() -> None:
    for dtype in (pl.Float64, pl.String, pl.Boolean, pl.Datetime("us", "UTC")):
        found = profile_column(pl.Series("x", [], dtype=dtype))
        assert (found.nulls, found.distinct, found.top) == (0, 0, ())
    assert shape_of("") == ""
