"""From comparisons to findings: what is written down of a column. Called by the drift monitors and by `engine monitor data`."""

from __future__ import annotations

from engine.watch.compare import ColumnComparison, Comparison
from engine.watch_records import Finding


def finding_of(item: ColumnComparison, share: float | None = None) -> Finding:
    """Give a column's finding; `share` is what it explains of the score's movement."""
    part = item.parts[0] if item.parts else None
    return Finding(
        name=item.column,
        status=item.status,
        adjusted=item.adjusted,
        effect=item.effect if part else None,
        component=part.name if part else "",
        words=item.words,
        before=part.before if part else None,
        now=part.now if part else None,
        explains=share,
        distances={name: round(value, 6) for name, value in item.distances.items()},
    )


def dependence_of(comparison: Comparison) -> Finding | None:
    """Give the finding about how columns hang together; `None` where that was not looked at."""
    item = comparison.dependence
    if item is None:
        return None
    return Finding(
        name=item.column, status=item.status, adjusted=item.adjusted, effect=item.effect, component="dependence",
        words=item.words, before=item.parts[0].before, now=item.parts[0].now,
        details={"pairs": [list(pair) for pair in comparison.pairs]},
    )  # fmt: skip


def rank_finding(item: Finding) -> tuple[int, float, float]:
    """What is in alarm first, then by evidence, then by size."""
    order = {"broken": 0, "alarm": 0, "ok": 1, "insufficient_data": 2}
    return (order[item.status], item.adjusted if item.adjusted is not None else 0.0, -(item.effect or 0.0))
