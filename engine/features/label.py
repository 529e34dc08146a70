"""Labels: what happened to each spine row, as far as it is known at the snapshot, and why a row has none.

Called by the features node. A label event counts when its time lies in `[T, T + horizon]` and it was available at the
snapshot; of several, the first in `(time, id)` order. A label is usable when T + maturity is not after the snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from engine.errors import DataError
from engine.features.frames import Ints, conform, gather, microseconds_of
from engine.features.lowering import evaluate, lower
from engine.features.matching import match_keys
from engine.features.spine import ROW_ID
from engine.features.steps import EVENT_TIME, FeatureProgram, LabelProgram
from engine.features.timeline import LONGEST, Timeline, build_timeline
from engine.features.timestamps import MAX_MOMENT, TIMESTAMP, Moment, moment_of

REASONS = ("usable", "immature", "missing", "outside_horizon", "null")
"""Why a spine row's label is, or is not, usable; the first that holds, in the order immature, missing, …"""


@dataclass(frozen=True, slots=True)
class Labels:
    """`rows`: label, label_known_at, usable, reason; one a spine row, in its order. `counts`: rows by reason."""

    rows: pl.DataFrame
    counts: Mapping[str, int]


def label_rows(
    program: FeatureProgram,
    spine: pl.DataFrame,
    history: Mapping[str, pl.DataFrame],
    as_of: Moment | None = None,
) -> Labels:
    """Label spine rows (`row_id`, `event_time`, and what the label joins by) from what was known at `as_of`.

    Without `as_of` the snapshot's time is the last moment at which a row of the label source became available.
    `label_known_at` is when the label was final: T + maturity, or when its event became available if that was later.
    Raises `DataError` for a program without a label, or for missing columns.
    """
    label = program.label
    if label is None:
        raise DataError("this program has no label")
    if label.source not in history:
        raise DataError(f"no history of source `{label.source}`, which gives the labels")
    limit = moment_of(as_of) if as_of is not None else None
    line = build_timeline(program.sources[label.source], history[label.source], limit)
    snapshot = limit if limit is not None else int(line.available.max(initial=-LONGEST))
    asked = _join_columns(program, label, spine)
    times = microseconds_of(conform(spine, {EVENT_TIME: "timestamp"}, "spine")[EVENT_TIME])
    chosen, known = _first_events(label, asked, times, line, snapshot)
    values = evaluate(lower({"label": label.expr}, program.sources[label.source].columns), line.frame)["label"]
    return _judge(label, times, gather(values, chosen), _Found(chosen, known, line), snapshot)


@dataclass(frozen=True, slots=True)
class _Found:
    """Per spine row: the event that labels it (-1 for none), and whether any event has its key."""

    chosen: Ints
    known: np.ndarray
    line: Timeline


def _join_columns(program: FeatureProgram, label: LabelProgram, spine: pl.DataFrame) -> pl.DataFrame:
    """The spine's side of the join, under the spine source's own names."""
    source = program.sources[program.spine.source]
    names = {
        target: ROW_ID if target == source.id and target not in spine.columns else target for _, target in label.on
    }
    renamed = spine.select(*(pl.col(name).alias(target) for target, name in names.items() if name in spine.columns))
    return conform(renamed, {target: source.columns[target] for target in names}, "spine")


def _first_events(
    label: LabelProgram, asked: pl.DataFrame, times: Ints, line: Timeline, snapshot: int
) -> tuple[Ints, np.ndarray]:
    queries, events = (codes.astype(np.int64) for codes in match_keys(asked, line.frame, label.on))
    rows = np.flatnonzero((events >= 0) & (line.available <= snapshot) & (line.until >= snapshot))
    held = np.bincount(events[rows], minlength=1)
    if held.max(initial=0) <= 1:
        candidate = _only_events(queries, events, rows, len(held))
        known = candidate >= 0
        same = known & (np.append(line.time, 0)[candidate] >= times)
    else:
        candidate, same = _next_events(queries, events, rows, times, line)
        known = np.isin(queries, events[rows]) & (queries >= 0)
    if label.horizon is not None:
        same &= np.append(line.time, 0)[candidate] <= times + min(label.horizon, LONGEST)
    return np.where(same, candidate, -1), known


def _only_events(queries: Ints, events: Ints, rows: Ints, size: int) -> Ints:
    """Give each key's event where no key has two, as when labels are joined by a unique id: a table, and no search."""
    table = np.full(size + 1, -1, dtype=np.int64)
    table[events[rows]] = rows
    return table[np.where((queries >= 0) & (queries < size), queries, size)]


def _next_events(queries: Ints, events: Ints, rows: Ints, times: Ints, line: Timeline) -> tuple[Ints, np.ndarray]:
    """Give each key's first event at or after the query's time, and whether there is one."""
    rows = rows[np.argsort(events[rows], kind="stable")]  # by key, then in total order
    moments = np.unique(line.time[rows])
    width = len(moments) + 1
    composite = events[rows] * width + np.searchsorted(moments, line.time[rows])
    found = np.searchsorted(composite, queries * width + np.searchsorted(moments, times), "left")
    inside = found < len(rows)
    candidate = np.where(inside, np.append(rows, -1)[np.minimum(found, len(rows))], -1)
    return candidate, (candidate >= 0) & (np.append(events, -2)[candidate] == queries) & (queries >= 0)


def _judge(label: LabelProgram, times: Ints, values: pl.Series, found: _Found, snapshot: int) -> Labels:
    final = times + min(label.maturity, LONGEST)
    known_at = np.maximum(final, np.append(found.line.available, 0)[found.chosen])
    has = found.chosen >= 0
    conditions = [final > snapshot, ~has & ~found.known, ~has, values.is_null().to_numpy()]
    codes = np.select(conditions, [1, 2, 3, 4], 0)
    moments = pl.Series(np.where(has & (known_at <= MAX_MOMENT), known_at, MAX_MOMENT + 1))
    rows = pl.DataFrame(
        {
            "label": values,
            "label_known_at": moments.set(moments > MAX_MOMENT, None).cast(TIMESTAMP),
            "usable": codes == 0,
            "reason": gather(pl.Series(REASONS), codes),
        }
    )
    return Labels(rows, {reason: int((codes == code).sum()) for code, reason in enumerate(REASONS)})
