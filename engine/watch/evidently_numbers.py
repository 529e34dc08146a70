"""Evidently's drift numbers of one column, to the digit (0.7.23): what `mode: compat` shows to those who compare.

Enters: values of the reference and of a chunk: (n,) float64 for numbers, text otherwise. Leaves: the value, the threshold and
the verdict of a method, or of the one that Evidently takes by itself. Called by `compat`; written from its documentation and
its answers, held to them by `tests/watch/test_compat.py`. As there: nulls, NaN and infinities are left out first.

Its bins are not ours: the range of both samples together, in equal widths by Sturges' (1926) rule, so an outlier widens every
bin; an empty bin counts as 0.0001, or as a millionth of the smallest share where that is rarer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.watch.moderation import Floats

FEW, MANY_ROWS = 5, 1000
_BINNED = 20  # distinct reference values beyond which numbers are binned
_EMPTY, _RARE = 0.0001, 1e6


@dataclass(frozen=True, slots=True)
class PeerValue:
    """What another tool says: `drifted` by its own rule, as `threshold` of its `method` tells."""

    method: str
    value: float
    threshold: float | None
    drifted: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """The reference's values and the chunk's, without nulls; `numeric` says whether they are numbers."""

    reference: NDArray[np.generic]
    current: NDArray[np.generic]
    numeric: bool


def evidently_default(pair: Pair) -> PeerValue | None:
    """Give the value of the method that Evidently chooses; `None` where it refuses a column without values."""
    if not len(pair.reference) or not len(pair.current):
        return None
    return evidently_value(_chosen(pair), pair)


def evidently_value(method: str, pair: Pair) -> PeerValue:
    """Give one method's value, as `METHODS` names them."""
    measured, threshold, is_p_value = METHODS[method]
    value = measured(pair)
    drifted = value <= threshold if method == "ks" else value < threshold if is_p_value else value >= threshold
    return PeerValue(method, value, threshold, bool(drifted))


def _chosen(pair: Pair) -> str:
    distinct = len(np.unique(np.concatenate([pair.reference, pair.current])))
    by_values = not pair.numeric or distinct <= FEW
    if len(pair.reference) > MANY_ROWS:
        return "jensenshannon" if by_values else "wasserstein"
    return "ks" if not by_values else "chisquare" if distinct > 2 else "z"


def _counted(pair: Pair) -> tuple[Floats, Floats]:
    """Count each value that either side has."""
    before, now = (Counter(side.tolist()) for side in (pair.reference, pair.current))
    keys = sorted(before.keys() | now.keys())
    return np.array([before[key] for key in keys], float), np.array([now[key] for key in keys], float)


def _shares(pair: Pair) -> tuple[Floats, Floats]:
    if pair.numeric and len(np.unique(pair.reference)) > _BINNED:
        edges = np.histogram_bin_edges(np.concatenate([pair.reference, pair.current]), bins="sturges")
        counts = tuple(np.histogram(side, edges)[0].astype(float) for side in (pair.reference, pair.current))
    else:
        counts = _counted(pair)
    return counts[0] / len(pair.reference), counts[1] / len(pair.current)


def _filled(shares: Floats) -> Floats:
    smallest = float(shares[shares > 0].min())
    return np.where(shares == 0, smallest / _RARE if smallest <= _EMPTY else _EMPTY, shares)


def _psi(pair: Pair) -> float:
    before, now = (_filled(shares) for shares in _shares(pair))
    return float(np.sum((before - now) * np.log(before / now)))


def _kullback_leibler(pair: Pair) -> float:
    before, now = (_filled(shares) for shares in _shares(pair))
    p, q = before / before.sum(), now / now.sum()
    return float(np.sum(p * np.log(p / q)))


def _jensen_shannon(pair: Pair) -> float:
    """The distance to base e."""
    p, q = (shares / shares.sum() for shares in _shares(pair))
    middle = (p + q) / 2
    parts = [np.sum(side[side > 0] * np.log(side[side > 0] / middle[side > 0])) for side in (p, q)]
    return float(np.sqrt(max(0.0, float(sum(parts)) / 2)))


def _wasserstein(pair: Pair) -> float:
    from scipy import stats  # noqa: PLC0415 - 1.4 s, and only those who compare need it

    distance = stats.wasserstein_distance(pair.reference, pair.current)
    return float(distance / max(float(np.std(pair.reference.astype(float))), 0.001))


def _ks(pair: Pair) -> float:
    from scipy import stats  # noqa: PLC0415 - as above

    return float(stats.ks_2samp(pair.reference, pair.current).pvalue)


def _chi_squared(pair: Pair) -> float:
    """The p-value of the chunk's counts against the reference's, taken as if it were without error."""
    from scipy import special  # noqa: PLC0415 - start-up time

    before, now = _counted(pair)
    expected = before * len(pair.current) / len(pair.reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = float(np.sum((now - expected) ** 2 / expected))
    return float(special.chdtrc(len(before) - 1, statistic)) if np.isfinite(statistic) else 0.0


def _z(pair: Pair) -> float:
    """The p-value of a difference of two shares: rows that are not the smallest value."""
    from scipy import special  # noqa: PLC0415 - start-up time

    keys = sorted(set(pair.reference.tolist()) | set(pair.current.tolist()))
    if len(keys) == 1:
        return 1.0
    n, m = len(pair.reference), len(pair.current)
    p, q = float(np.mean(pair.reference != keys[0])), float(np.mean(pair.current != keys[0]))
    pooled = (p * n + q * m) / (n + m)
    score = (p - q) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return float(2 * (1 - special.ndtr(abs(score))))


METHODS: Mapping[str, tuple[Callable[[Pair], float], float, bool]] = {
    "psi": (_psi, 0.1, False),
    "kl_div": (_kullback_leibler, 0.1, False),
    "jensenshannon": (_jensen_shannon, 0.1, False),
    "wasserstein": (_wasserstein, 0.1, False),
    "ks": (_ks, 0.05, True),
    "chisquare": (_chi_squared, 0.05, True),
    "z": (_z, 0.05, True),
}
"""By Evidently's names: what is measured, its default threshold, whether it is a p-value."""
NUMERIC_ONLY = frozenset({"wasserstein", "ks"})
CATEGORIES_ONLY = frozenset({"chisquare", "z"})
