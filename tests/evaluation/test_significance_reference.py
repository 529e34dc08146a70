"""Statistics against independent libraries: scipy at test time; R's pROC and statsmodels by recorded values.

Recorded with R 4.2.2 and pROC 1.18.0 (`roc.test(method = "delong", paired = TRUE)`), and statsmodels 0.15.0.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from engine.contracts import Scores
from engine.evaluation.bootstrap import Resampling, paired_bootstrap
from engine.evaluation.metrics import measure
from engine.evaluation.significance import (
    clopper_pearson,
    delong,
    delong_area,
    holm_adjusted,
    mcnemar,
    midranks,
    newcombe,
    wilson,
)

EXACT = {"rel": 1e-9, "abs": 1e-9}


def rows(seed, n, ties):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(n)
    y = (rng.random(n) < 1 / (1 + np.exp(-z))) * 1.0
    a, b = z + rng.standard_normal(n), z + 1.5 * rng.standard_normal(n)
    return (y, np.round(a, 1), np.round(b)) if ties else (y, a, b)


# area of a and of b, z, p, interval of the difference, interval of a's area
PROC = [
    ((1, 200, False), (0.66930000000000001, 0.59889999999999999, 1.4644159425398504, 0.14308033473866091,
                       -0.023822864217326017, 0.16462286421732628, 0.5941143494909551, 0.74448565050904514)),
    ((2, 60, True), (0.65319865319865322, 0.66217732884399549, -0.10640121076250707, 0.9152640324826512,
                     -0.1743704110177634, 0.15641305972707886, 0.50612887146218455, 0.8002684349351219)),
    ((3, 1000, True), (0.66501385795991608, 0.62220237427706315, 2.1052482459404183, 0.03526970457328623,
                       0.0029544424503432434, 0.08266852491536239, 0.63167464900164261, 0.69835306691818932)),
]  # fmt: skip


@pytest.mark.parametrize(("made", "recorded"), PROC)
def test_delong_equals_proc(made, recorded):
    y, a, b = rows(*made)
    found, alone = delong(y, a, b), delong_area(y, a)
    gap = found.difference
    ours = (found.ours, found.other, found.z, found.p, gap.low, gap.high, alone.low, alone.high)
    assert ours == pytest.approx(recorded, **EXACT)
    assert delong(y, b, a).p == pytest.approx(found.p, **EXACT)
    assert found.ours == pytest.approx(measure("roc_auc", y, a), **EXACT)


def test_delong_of_equal_models():
    y, a, _ = rows(1, 200, False)
    found = delong(y, a, a)
    assert (found.z, found.p, found.difference.low, found.difference.high) == (0.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("b", "c", "statistic", "p"),
    [
        (10, 3, 3.0, 0.09228515625),
        (0, 0, 0.0, 1.0),
        (25, 40, 25.0, 0.08168153394154003),
        (7, 7, 7.0, 1.0),
        (600, 520, 5.572321428571429, 0.018246554351008498),  # chi-squared with continuity correction
    ],
)
def test_mcnemar_equals_statsmodels(b, c, statistic, p):
    ours = np.array([True] * b + [False] * c + [True] * 150)
    other = np.array([False] * b + [True] * c + [True] * 150)
    found = mcnemar(ours, other)
    assert (found.ours, found.other, found.n) == (b, c, b + c + 150)
    assert (found.statistic, found.p) == pytest.approx((statistic, p), **EXACT)
    assert found.gain.low <= found.gain.value <= found.gain.high
    if b + c <= 1000 and b + c:
        assert found.p == pytest.approx(scipy.stats.binomtest(b, b + c).pvalue, **EXACT)


def test_holm_equals_statsmodels():
    p = dict(zip("abcdef", [0.01, 0.04, 0.03, 0.005, 0.2, 0.04], strict=True))
    assert list(holm_adjusted(p).values()) == pytest.approx([0.05, 0.12, 0.12, 0.03, 0.2, 0.12], **EXACT)


@pytest.mark.parametrize(
    ("count", "n", "level", "score", "exact"),
    [
        (3, 50, 0.95, (0.02061497034897397, 0.16217091688838173), (0.012548587835334064, 0.16548194660377288)),
        (0, 20, 0.9, (0.0, 0.11915783736096455), (0.0, 0.13910834066826522)),
        (20, 20, 0.95, (0.8388748419471806, 1.0), (0.8315665290169147, 1.0)),
        (499, 1000, 0.99, (0.4584136770279477, 0.5395995053018592), (0.45785746037680203, 0.5401521914751202)),
    ],
)
def test_intervals_of_a_share_equal_statsmodels_and_scipy(count, n, level, score, exact):
    for found, recorded, method in ((wilson, score, "wilson"), (clopper_pearson, exact, "exact")):
        ours = found(count, n, level)
        assert (ours.low, ours.high) == pytest.approx(recorded, **EXACT)
        theirs = scipy.stats.binomtest(count, n).proportion_ci(level, method)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), **EXACT)


@pytest.mark.parametrize(
    ("successes", "n", "level", "recorded"),
    [
        ((56, 48), (70, 80), 0.95, (0.05243147240236498, 0.333872654036906)),
        ((9, 3), (10, 10), 0.95, (0.17052272393450302, 0.8090179735354881)),
        ((10, 0), (10, 20), 0.9, (0.755985916743429, 1.0)),
    ],
)
def test_difference_of_shares_equals_statsmodels(successes, n, level, recorded):
    found = newcombe(successes, n, level)
    assert (found.low, found.high) == pytest.approx(recorded, **EXACT)


@pytest.mark.parametrize("metric", ["brier", "roc_auc", "accuracy", "log_loss", "average_precision"])
def test_paired_bootstrap_equals_scipys(metric):
    """The same stream of resamples, and the same percentiles."""
    y, a, b = rows(5, 120, False)
    ours, other = (Scores(y, 1 / (1 + np.exp(-x))) for x in (a, b))
    found = paired_bootstrap(ours, other, metric, Resampling(resamples=200, level=0.9, seed=11))

    def statistic(label, one, two):
        return measure(metric, label, one) - measure(metric, label, two)

    theirs = scipy.stats.bootstrap(
        (y, ours.prediction, other.prediction), statistic, n_resamples=200, batch=1, vectorized=False, paired=True,
        confidence_level=0.9, method="percentile", rng=np.random.Generator(np.random.PCG64(11)),
    )  # fmt: skip
    interval = theirs.confidence_interval
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), **EXACT)
    assert found.value == pytest.approx(statistic(y, ours.prediction, other.prediction), **EXACT)


def test_midranks_equal_scipys():
    _, a, b = rows(2, 60, True)
    for values in (a, b):
        assert midranks(values).tolist() == scipy.stats.rankdata(values).tolist()
