"""Evidence that columns moved together or apart: second moments of normal scores, pair by pair.

Enters: moments of K reference chunks and of one chunk, for J columns. Leaves: a tail probability for each pair. Called by
`compare` and by the simulation. Margins are taken out: the scores are frozen with the reference and centred in each chunk.

A correlation of normal scores is the efficient test of dependence that the margins do not show (Klaassen & Wellner 1997);
a domain classifier, which the `multivariate` monitor has too, sees more kinds of it and each of them later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.watch.moderation import Floats, dispersions, moderate
from engine.watch.scores import combine

_SMALL = 10  # rows below which a chunk's correlations say nothing


@dataclass(frozen=True, slots=True)
class PairMoments:
    """Covariances of standardised scores by pair, and the variance of a product; (..., P, K), (..., P) and (..., P).

    `rows` (..., K) and `now` (...,) are the rows they were taken from.
    """

    reference: Floats
    current: Floats
    variance: Floats
    rows: Floats
    now: Floats


def judge_pairs(moments: PairMoments) -> tuple[Floats, Floats]:
    """Give each pair's tail probability and its change of correlation, (..., P) each."""
    rows, now = moments.rows[..., None, :], moments.now[..., None]
    total = rows.sum(axis=-1)
    mean = (moments.reference * rows).sum(axis=-1) / np.maximum(total, 1.0)
    rest = np.maximum(total[..., None] - rows, 1.0)
    apart = (moments.reference - mean[..., None]) * (1.0 + rows / rest)
    spread = np.maximum(moments.variance, 1e-6)
    known = apart**2 / (spread[..., None] * (1.0 / np.maximum(rows, 1.0) + 1.0 / rest))
    moved = moments.current - mean
    score = moved / np.sqrt(spread * (1.0 / np.maximum(now, 1.0) + 1.0 / np.maximum(total, 1.0)))
    ratio = now / np.maximum(rows.mean(axis=-1), 1.0)
    law = moderate(dispersions(known, 1.0, np.broadcast_to(total > 0, known.shape[:-1])))
    tail = np.where(now >= _SMALL, law.scaled(ratio).tail(score**2), 1.0)
    return tail, moved


def combine_pairs(tail: Floats) -> Floats:
    """Combine the pairs' evidence into one probability; no pairs give 1."""
    return combine(tail, np.ones(tail.shape)) if tail.shape[-1] else np.ones(tail.shape[:-1])
