"""Real chunk-to-chunk variance, borrowed across columns: the null model of every comparison.

Enters: squared statistics of reference chunks, each computed without its own chunk in the reference, scaled so that they
are 1 on average when rows are drawn alike; and the same of the chunk in question. Leaves: tail probabilities. Called by
the evidence modules, for one family of like statistics (the location of every numeric column, say) at a time.

With K chunks a variance has K - 1 degrees of freedom, and a t test at the level that fifty columns leave has hardly any
power. Columns of one family wobble alike, so their variances are shrunk to a common one by an empirical-Bayes prior,
estimated from all of them (Smyth 2004, "Linear models and empirical Bayes methods"; the inverse-chi-squared prior and
its moments as there). A column that wobbles far more than the others is judged by its own variance: a two-component
mixture in the spirit of Phipson et al. 2016 ("Robust hyperparameter estimation"). No variance is taken to be below what
drawing rows alone gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats: TypeAlias = "NDArray[np.float64]"

_OUTLIERS = 0.05  # share of columns that may wobble by a law of their own
_SPREAD = float(np.log(1000.0))  # over which range of variances those are thought to lie, in logarithms
_FAR = 4.0  # robust standard deviations from the median, beyond which a column does not shape the prior
_SMALLEST = 1e-12
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Dispersions:
    """Variances of a family of J statistics, from K reference chunks each; all (..., J).

    `own` is each statistic's, of `df` degrees of freedom; `informative` says which may shape the common prior (a count
    that is nearly always zero says nothing about wobble). `exposure` is how much a wobble of one common relative size
    would add to each: more to the share of a frequent category than to that of a rare one. Without it, alike.
    """

    own: Floats
    df: Floats
    informative: NDArray[np.bool_]
    exposure: Floats | None = None


@dataclass(frozen=True, slots=True)
class Moderated:
    """What the null model of each statistic is: (..., J). `inlier` is the weight of the shared law."""

    shared: Floats
    shared_df: Floats
    own: Floats
    own_df: Floats
    inlier: Floats

    def scaled(self, rows_ratio: Floats | float) -> Moderated:
        """Give the same for a chunk with `rows_ratio` times the rows of the reference's: wobble weighs more in larger ones."""

        def stretched(variance: Floats) -> Floats:
            return 1.0 + (variance - 1.0) * rows_ratio

        return Moderated(stretched(self.shared), self.shared_df, stretched(self.own), self.own_df, self.inlier)

    def tail(self, squared: Floats, nu: Floats | float = 1.0) -> Floats:
        """Give the probability of a statistic at least this large: `squared` is a quadratic form over its `nu` degrees."""
        shared = special.fdtrc(nu, self.shared_df, squared / self.shared)
        own = special.fdtrc(nu, self.own_df, squared / self.own)
        return np.asarray(self.inlier * shared + (1.0 - self.inlier) * own)

    @property
    def variance(self) -> Floats:
        """The variance that the shared law and the own one give together: what a standardised value is divided by."""
        return self.inlier * self.shared + (1.0 - self.inlier) * self.own


def moderate(found: Dispersions) -> Moderated:
    """Shrink a family's variances to what they have in common."""
    trend = _trend(found)
    centre, prior_df = _prior(found, trend)
    prior, prior_df = centre[..., None] * trend, prior_df[..., None]
    units = found.informative.sum(axis=-1)[..., None]
    # A common variance of J columns is itself known to J times the degrees of freedom only.
    prior_df = np.minimum(prior_df, found.df * np.maximum(units - 1, 0))
    total = prior_df + found.df
    shared = np.maximum(1.0, (prior_df * prior + found.df * found.own) / total)
    return Moderated(shared, total, np.maximum(1.0, found.own), found.df, _inlier_weight(found, prior, prior_df))


def dispersions(
    squared: Floats, nu: Floats | float, informative: NDArray[np.bool_], exposure: Floats | None = None
) -> Dispersions:
    """Estimate variances from squared leave-one-out statistics, (..., J, K), each over its `nu` degrees of freedom."""
    chunks = squared.shape[-1]
    own = squared.mean(axis=-1)
    df = np.broadcast_to(np.asarray((chunks - 1) * np.asarray(nu, dtype=np.float64)), own.shape)
    return Dispersions(own, df, informative & (own > _SMALLEST), exposure)


def _trend(found: Dispersions) -> Floats:
    """Fit the variance that each statistic would have if all wobbled alike: 1 + common * exposure, by weighted squares."""
    if found.exposure is None:
        return np.ones(found.own.shape)
    exposure = np.broadcast_to(found.exposure, found.own.shape)
    trend = np.ones(found.own.shape)
    for _ in range(_ROUNDS):
        weight = np.where(found.informative, exposure / trend**2, 0.0)
        above = (weight * (found.own - 1.0)).sum(axis=-1) / np.maximum((weight * exposure).sum(axis=-1), _SMALLEST)
        trend = 1.0 + np.maximum(above, 0.0)[..., None] * exposure
    return trend


def _prior(found: Dispersions, trend: Floats) -> tuple[Floats, Floats]:
    """Fit the scaled inverse-chi-squared prior by the moments of log variances, without outliers; (...,) each."""
    half = found.df / 2
    centred = np.log(np.maximum(found.own / trend, _SMALLEST)) - special.digamma(half) + np.log(half)
    known = np.where(found.informative, centred, np.nan)
    expected = special.zeta(2, half)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = _nan_median(known)[..., None]
        spread = 1.4826 * _nan_median(np.abs(known - middle))[..., None]
        near = np.abs(known - middle) <= _FAR * np.maximum(spread, np.sqrt(expected))
        count = np.maximum(near.sum(axis=-1), 1)
        mean = np.where(near, known, 0.0).sum(axis=-1) / count
        excess = np.where(near, (known - mean[..., None]) ** 2 - expected * ((count - 1) / count)[..., None], 0.0)
        variance = excess.sum(axis=-1) / np.maximum(count - 1, 1)
    prior_df = 2.0 * _inverse_trigamma(np.maximum(variance, 1e-6))
    prior = np.exp(mean + special.digamma(prior_df / 2) - np.log(prior_df / 2))
    enough = found.informative.sum(axis=-1) >= 2
    return np.where(enough, prior, 1.0), np.where(enough, prior_df, 0.0)


def _nan_median(values: Floats) -> Floats:
    """Give the median along the last axis of what is there; 0 when nothing is."""
    present = ~np.isnan(values)
    count = present.sum(axis=-1)
    ordered = np.sort(np.where(present, values, np.inf), axis=-1)
    low = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0)[..., None], -1)[..., 0]
    high = np.take_along_axis(ordered, (count // 2).clip(0, values.shape[-1] - 1)[..., None], -1)[..., 0]
    return np.asarray(np.where(count > 0, np.where(np.isfinite(low), (low + high) / 2, 0.0), 0.0))


def _inverse_trigamma(value: Floats) -> Floats:
    """Solve trigamma(y) = value by Newton's method on its reciprocal, which is nearly linear (Smyth 2004, appendix)."""
    found = 0.5 + 1.0 / value
    for _ in range(8):
        now = special.zeta(2, found)  # trigamma; its derivative is -2 zeta(3, y)
        found = found - now * (1.0 - now / value) / (2.0 * special.zeta(3, found))
    return np.asarray(found)


def _inlier_weight(found: Dispersions, prior: Floats, prior_df: Floats) -> Floats:
    """Give the probability that a statistic's variance follows the shared law, given what it was in the reference."""
    ratio = np.maximum(found.own, _SMALLEST) / prior
    far = np.where(prior_df > 0, prior_df, 1.0)
    df = found.df
    # The density of log F(df, prior df) at the observed variance.
    log_density = (
        0.5 * df * np.log(df) + 0.5 * far * np.log(far) - special.betaln(0.5 * df, 0.5 * far) + 0.5 * df * np.log(ratio)
    ) - 0.5 * (df + far) * np.log(df * ratio + far)
    inside = (1.0 - _OUTLIERS) * np.exp(log_density)
    weight = inside / (inside + _OUTLIERS / _SPREAD)
    weight = np.where(ratio < 1.0, np.maximum(weight, 1.0 - _OUTLIERS), weight)  # calmer than the rest is no concern
    return np.where(prior_df > 0, weight, 0.0)
