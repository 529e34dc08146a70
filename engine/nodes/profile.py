"""The reference profile that monitors compare with: counts on frozen quantile bins, with nulls apart; additive."""

from __future__ import annotations

import numpy as np

from engine.keys import Json

_BINS = 10


def profile_of(values: np.ndarray) -> dict[str, Json]:
    """Count values between quantile edges; `counts[i]` are those in `(edges[i-1], edges[i]]`. (n,) float64, NaN is null."""
    ordered = np.sort(values)  # NaN comes last; numpy's sort is quicker than finding some places of a column
    present = ordered[: len(ordered) - np.count_nonzero(np.isnan(ordered))]
    if not len(present):
        return {"edges": [], "counts": [], "nulls": len(values)}
    # Order statistics rather than interpolated quantiles: an edge is a value that occurs.
    places = np.linspace(0, len(present) - 1, _BINS + 1)[1:-1].astype(np.int64)
    edges = np.unique(present[places])
    below = np.searchsorted(present, edges, side="right")
    counts = np.diff(below, prepend=0, append=len(present))
    return {"edges": edges.tolist(), "counts": counts.tolist(), "nulls": int(len(values) - len(present))}
