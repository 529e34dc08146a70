"""NannyML's numbers, to the digit (0.13.1): univariate drift with its thresholds, and its confidence-based estimates.

Enters: values of the reference, of its chunks and of a chunk, without nulls: (n,) float64 or text; for estimates calibrated
probabilities and scores, (n,) float64. Leaves: values, thresholds, verdicts. Called by `compat`; written from its documentation
and its answers, held to them by `tests/watch/test_compat.py`.

Its bins are the reference's range in equal widths by Doane's (1976) rule, what lies outside being one more bin. A threshold is
the mean of the reference chunks' values plus three standard deviations; each of those chunks is part of what it is compared
with, so the threshold is too low for a chunk that is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.watch.evidently_numbers import PeerValue
from engine.watch.moderation import Floats

_DEVIATIONS = 3.0
_EXACT = 10_000  # reference rows from which its Kolmogorov-Smirnov statistic is taken on equal bins
_ROUNDED = 5  # digits to which it keeps expected counts

Values = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A method fitted to a reference: its values of other chunks, and the limits that those of its own set."""

    method: str
    value: Callable[[Values], float]
    threshold: float

    def read(self, current: Values) -> PeerValue | None:
        """Give the value of a chunk; `None` when it has no values."""
        if not len(current):
            return None
        value = self.value(current)
        return PeerValue(self.method, value, self.threshold, value > self.threshold)


def nannyml_fit(method: str, chunks: Sequence[Values]) -> Fitted | None:
    """Fit one method, as `METHODS` names them, to the chunks of a reference; `None` without values."""
    filled = [chunk for chunk in chunks if len(chunk)]
    if not filled:
        return None
    made = METHODS[method](np.concatenate(filled))
    known = np.array([made(chunk) for chunk in filled])
    return Fitted(method, made, float(known.mean() + _DEVIATIONS * known.std()))


def _shares(reference: Values) -> Callable[[Values], tuple[Floats, Floats]]:
    """Fix the bins; what a chunk has outside them is one more."""
    numeric = reference.dtype.kind == "f"
    if numeric:
        edges = np.histogram_bin_edges(reference.astype(float), bins="doane")
        before = np.histogram(reference, bins=edges)[0] / len(reference)
    else:
        keys, counts = np.unique(reference, return_counts=True)
        before = counts / len(reference)

    def measure(current: Values) -> tuple[Floats, Floats]:
        if numeric:
            now = np.histogram(current, bins=edges)[0] / len(current)
        else:
            found = dict(zip(*np.unique(current, return_counts=True), strict=True))
            now = np.array([found.get(key, 0) for key in keys]) / len(current)
        left = 1 - np.sum(now)
        return (np.append(before, 0.0), np.append(now, left)) if left > 0 else (before, now)

    return measure


def _jensen_shannon(reference: Values) -> Callable[[Values], float]:
    shares = _shares(reference)

    def measure(current: Values) -> float:
        before, now = shares(current)
        p, q = before / before.sum(), now / now.sum()
        middle = (p + q) / 2
        parts = [np.sum(side[side > 0] * np.log2(side[side > 0] / middle[side > 0])) for side in (p, q)]
        return float(np.sqrt(max(0.0, float(sum(parts)) / 2)))

    return measure


def _hellinger(reference: Values) -> Callable[[Values], float]:
    shares = _shares(reference)

    def measure(current: Values) -> float:
        before, now = shares(current)
        return float(np.sqrt(np.sum((np.sqrt(before) - np.sqrt(now)) ** 2) / 2))

    return measure


def _kolmogorov_smirnov(reference: Values) -> Callable[[Values], float]:
    """The statistic: on values, or on 10,000 equal bins of a large reference."""
    values = np.sort(reference.astype(float))
    edges = np.linspace(values[0], values[-1], _EXACT + 1)
    below = np.cumsum(np.histogram(values, edges)[0] / len(values))

    def measure(current: Values) -> float:
        now = np.sort(current.astype(float))
        if len(values) >= _EXACT:
            at = np.mean(now < edges[0]) + np.cumsum(np.histogram(now, edges)[0] / len(now))
            return float(np.abs(below - at).max())
        both = np.concatenate([values, now])
        sides = [np.searchsorted(side, both, side="right") / len(side) for side in (values, now)]
        return float(np.abs(sides[0] - sides[1]).max())

    return measure


def _l_infinity(reference: Values) -> Callable[[Values], float]:
    keys, counts = np.unique(reference, return_counts=True)
    before = dict(zip(keys.tolist(), (counts / len(reference)).tolist(), strict=True))

    def measure(current: Values) -> float:
        found, many = np.unique(current, return_counts=True)
        now = dict(zip(found.tolist(), (many / len(current)).tolist(), strict=True))
        return max(abs(float(before.get(key, 0.0)) - float(now.get(key, 0.0))) for key in {*before, *now})

    return measure


METHODS: Mapping[str, Callable[[Values], Callable[[Values], float]]] = {
    "jensen_shannon": _jensen_shannon,
    "hellinger": _hellinger,
    "kolmogorov_smirnov": _kolmogorov_smirnov,
    "l_infinity": _l_infinity,
}
"""By NannyML's names; the first is what it takes by itself."""
NUMERIC_ONLY, CATEGORIES_ONLY = frozenset({"kolmogorov_smirnov"}), frozenset({"l_infinity"})


def nannyml_auc(probability: Floats, score: Floats) -> float:
    """Give its expected area under the curve: rows in order of the score, ties in the order that numpy's sort leaves them in."""
    order = np.argsort(score)[::-1]
    hits = np.cumsum(probability[order])
    misses = 1 + np.arange(len(hits)) - hits
    true, false = (np.round(np.concatenate([[0.0], side]), _ROUNDED) for side in (hits, misses))
    return float(np.trapezoid(true / true[-1], false / false[-1]))


def nannyml_counts(probability: Floats, positive: NDArray[np.bool_]) -> Mapping[str, float]:
    """Give its expected metrics of decisions: `positive` are the rows that are called so. (n,) each."""
    tp, fp = float(probability[positive].sum()), float((1 - probability[positive]).sum())
    fn, tn = float(probability[~positive].sum()), float((1 - probability[~positive]).sum())

    def ratio(above: float, below: float) -> float:
        return above / below if below else 0.0

    return {
        "accuracy": ratio(tp + tn, tp + fp + fn + tn),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "specificity": ratio(tn, tn + fp),
        "f1": ratio(tp, tp + 0.5 * (fp + fn)),
    }


def nannyml_auc_error(y: Floats, score: Floats) -> Callable[[int], float]:
    """Give its sampling error of an area by the number of rows, from the reference's labels and scores, (n,) each."""
    if y.mean() > 0.5:
        y, score = 1 - y, 1 - score
    ranked = y[np.argsort(score)]
    places = np.flatnonzero(ranked)
    places = places[places > 0]
    positives = float(ranked.sum())
    below = (places - np.arange(len(places))) / (len(ranked) - positives)
    spread, share = float(np.std(below)), positives / len(ranked)
    return lambda rows: float(spread / np.sqrt(rows * share))
