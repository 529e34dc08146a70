"""Tests that may be looked at as often as one likes: confidence sequences for a mean, and for the ratio of a split. Pure.

Enters: values in the order in which they came. Leaves: an interval that covers the truth at every look at once. Called by
rollouts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
LEAST_EACH = 100
_TUNED_FOR = 500  # values at which the interval is narrowest, about


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its bounds after `n` values; infinite bounds say that nothing is known yet."""

    mean: float
    low: float
    high: float
    n: int


def mean_sequence(values: Doubles, level: float, least: int = 30) -> Interval:
    """Bound the mean of a stream, at error `level` over all looks together.

    Robbins' normal mixture with the running variance: the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha,
    Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences" (2021), theorem 2.2. It
    needs some values before the variance is one; fewer than `least` say nothing.
    """
    n = len(values)
    if n < max(least, 2):
        return Interval(float(values.mean()) if n else 0.0, -math.inf, math.inf, n)
    rho = tuned_rho(level)
    spread = float(values.std()) * math.sqrt(
        2 * (n * rho**2 + 1) / (n**2 * rho**2) * math.log(math.sqrt(n * rho**2 + 1) / level)
    )
    mean = float(values.mean())
    return Interval(mean, mean - spread, mean + spread, n)


def tuned_rho(level: float, at: int = _TUNED_FOR) -> float:
    """The mixture's width for which the interval is about narrowest after `at` values (the same paper, appendix B.2)."""
    return math.sqrt((-2 * math.log(level) + math.log(-2 * math.log(level) + 1)) / at)


def contrast(losses: Doubles, challenger: npt.NDArray[np.bool_], share: Doubles) -> Doubles:
    """One value a labelled answer whose mean is the difference challenger minus champion, whatever the shares were.

    `share` (n,) is the chance with which that answer went to the challenger. Losses are centred by the mean of those before
    (augmented inverse-propensity weighting), which keeps the variance small and needs no look ahead.
    """
    before = np.concatenate([[0.0], np.cumsum(losses)[:-1] / np.arange(1, len(losses))]) if len(losses) else losses
    away = losses - before
    return np.where(challenger, away / share, -away / (1 - share))


def split_sequence(losses: Doubles, challenger: npt.NDArray[np.bool_], share: Doubles, level: float) -> Interval:
    """Bound the difference challenger minus champion; unknown until each of them has `LEAST_EACH` answers.

    With a share of 5 % a single answer weighs 20; the interval is honest once there are some.
    """
    values = contrast(losses, challenger, share)
    if min(int(challenger.sum()), int((~challenger).sum())) < LEAST_EACH:
        return Interval(float(values.mean()) if len(values) else 0.0, -math.inf, math.inf, len(values))
    return mean_sequence(values, level)


def ratio_evidence(counts: Sequence[tuple[int, int, float]]) -> float:
    """Evidence that a split is not the declared one: a Bayes factor that exceeds 1/a with chance at most a, at any look.

    `counts` has (challenger's, champion's, declared share) of each step, in distinct entities. A beta mixture around the
    declared share: Lindon and Malek, "Anytime-valid inference for multinomial count data" (2020).
    """
    total = 0.0
    for ours, theirs, share in counts:
        if not 0 < share < 1:
            continue
        a, b = 100 * share, 100 * (1 - share)
        total += (
            _log_beta(a + ours, b + theirs) - _log_beta(a, b) - ours * math.log(share) - theirs * math.log(1 - share)
        )
    return math.exp(min(total, 700.0))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
