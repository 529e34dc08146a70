"""Two versions on the same rows: whether a promotion was a mistake, and whether a challenger without a server proves itself.

Enters: rows with labels that came after both were judged, and two versions. Leaves: the losses' difference, bounded at all
looks at once. Called by the tick's observations. Rows are taken in the order in which their labels came, so that what was seen
at an earlier look is the beginning of what is seen now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from engine.api import Declared
from engine.clock import isoformat
from engine.durations import microseconds
from engine.errors import EngineError, NotFoundError
from engine.evaluation.sequential import Doubles, Interval, mean_sequence
from engine.locations import Stores
from engine.nodes.matrix import load_model
from engine.records import ModelVersion, RolloutState
from engine.serve.judging import Found, losses
from engine.spec import GuardSpec
from engine.spec.monitoring import ChunkSpec
from engine.stores.ledger import last_known_good
from engine.stores.rollouts import spec_of
from engine.watch.observations import record_of, scored
from engine.watch.observed import KNOWN_AT, LABEL, PREDICTION, ROW_ID, TIME
from engine.watch_records import Reading

GUARD = "guard"
_LOSSES = {"binary": "brier", "regression": "squared_error"}


@dataclass(frozen=True, slots=True)
class Paired:
    """Losses of two versions on the same rows, in the order in which labels came; `ours` is the one in question."""

    ours: Doubles
    theirs: Doubles
    known: pl.Series

    @property
    def difference(self) -> Doubles:
        """By how much ours is worse, row by row."""
        return self.ours - self.theirs


def rivals(declared: Declared, stores: Stores) -> tuple[ModelVersion, ModelVersion] | None:
    """Give the version in production and the one it would be rolled back to; `None` where nothing is guarded."""
    spec = declared.spec
    model, alias = spec.registry.model or spec.name, spec.registry.alias
    held = stores.registry.alias(model, alias)
    if spec.retrain.guard is None or held is None or spec.train.task not in _LOSSES:
        return None
    before = last_known_good(stores.registry.history(model), alias)
    previous = next((item for item in stores.registry.versions(model) if item.version == before), None)
    return None if previous is None else (held, previous)


def guard(declared: Declared, stores: Stores, fresh: pl.DataFrame, now: datetime) -> Reading | None:
    """Compare the version in production with the one before it; `None` when there is none, or nobody wants to know."""
    spec, rule, found = declared.spec, declared.spec.retrain.guard, rivals(declared, stores)
    if rule is None or found is None:
        return None
    (held, previous), model = found, found[0].name
    rows = _others(fresh, pl.concat([_rows_of(stores, version) for version in found]))
    paired = pair(rows, found, (declared, stores), _LOSSES[spec.train.task])
    worst = worst_stretch(paired, rule, chunk_starts(paired.known, spec.watch.chunk))
    bounds, limit = worst.bounds, worst.limit
    told = f"{_LOSSES[spec.train.task]} of {model}@{held.version} differs from {model}@{previous.version}'s by {bounds.mean:+.5f}"
    words = f"{told} [{_shown(bounds.low)}, {_shown(bounds.high)}] on {bounds.n} rows; {limit:.5f} is allowed"
    known = bool(np.isfinite(bounds.low))
    since = paired.known[worst.start] if len(paired.known) else now
    return Reading(
        pipeline=spec.name, monitor=GUARD, kind=GUARD, chunk=f"{model}@{held.version}", model=f"{model}@{held.version}",
        start=isoformat(since), end=isoformat(now), rows=bounds.n, at=isoformat(now), words=words, severity="critical",
        status="insufficient_data" if not known else "alarm" if bounds.low > limit else "ok",
        value=bounds.mean if bounds.n else None, low=bounds.low if known else None, high=bounds.high if known else None,
        details={"version": held.version, "previous": previous.version, "limit": limit},
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows from a place on: the difference's bounds, and how much worse than the other version is allowed."""

    start: int
    bounds: Interval
    limit: float


def worst_stretch(paired: Paired, rule: GuardSpec, starts: Sequence[int]) -> Stretch:
    """Give the stretch, from one of the places to the end, on which ours is most surely worse than is allowed.

    A version may be good at first. So a confidence sequence begins at each place; the level is spent over them as 6/(pi j)^2,
    which adds up to one: with chance `level` at most, any of them ever says so of a version that is no worse.
    """
    found = []
    for number, start in enumerate(starts or (0,), 1):
        level = rule.level * 6 / (np.pi * number) ** 2
        bounds = mean_sequence(paired.difference[start:], level, rule.min_labels)
        usual = float(paired.theirs[start:].mean()) if len(paired.theirs) > start else 0.0
        found.append(Stretch(start, bounds, rule.worse_by * usual))
    return max(found, key=lambda item: (item.bounds.low - item.limit, item.bounds.n))


def chunk_starts(known: pl.Series, chunk: ChunkSpec) -> list[int]:
    """Give the place of the first row of each chunk by time; shorter ones than a day are taken together."""
    if not len(known):
        return []
    every = {"month": "1mo", "week": "1w", "day": "1d", "hour": "1d"}
    by = chunk.by or "day"
    cut = known.dt.truncate(every.get(by) or f"{max(microseconds(by), 86_400_000_000)}us")
    return [0, *(index + 1 for index in np.flatnonzero((cut[1:] != cut[:-1]).to_numpy()).tolist())]


def replay_rollout(declared: Declared, stores: Stores, rows: pl.DataFrame, state: RolloutState) -> Found:
    """Find what a shadow would have found, on rows that came since the rollout began: both versions score all of them."""
    spec = spec_of(state)
    versions = {item.version: item for item in stores.registry.versions(state.model)}
    ours, theirs = versions[state.challenger], versions[state.champion]
    judged = pl.concat([_rows_of(stores, version) for version in (ours, theirs)])
    paired = pair(_others(rows, judged), (ours, theirs), (declared, stores), spec.loss)
    both = any(step.share == 0 for step in spec.steps) and any(step.share > 0 for step in spec.steps)
    bounds = mean_sequence(paired.difference, spec.level / 2 if both else spec.level)
    since = pl.Series([datetime.fromisoformat(state.since)]).dt.cast_time_unit("us")
    new = int((paired.known >= since[0]).sum()) if len(paired.known) else 0
    return Found(new, Interval(bounds.mean, bounds.low, bounds.high, bounds.n), bounds.n, 0.0, 0.0)


def pair(
    rows: pl.DataFrame, versions: tuple[ModelVersion, ModelVersion], where: tuple[Declared, Stores], loss: str
) -> Paired:
    """Score labelled rows with both versions; rows that one of them cannot score are left out."""
    declared, stores = where
    empty = Paired(np.empty(0), np.empty(0), pl.Series(KNOWN_AT, [], dtype=pl.Datetime("us", "UTC")))
    if LABEL not in rows.columns or not rows.height or rows.schema[LABEL] == pl.String:
        return empty
    order = [KNOWN_AT, ROW_ID] if KNOWN_AT in rows.columns else [TIME, ROW_ID]
    labelled = rows.drop_nulls(LABEL).sort(order, maintain_order=True)
    label = labelled[LABEL].cast(pl.Float64).to_numpy()
    found = []
    for version in versions:
        try:
            model = load_model(stores.artefacts.open(version.digest), declared.catalogue)
        except EngineError:
            return empty
        table = scored(labelled.drop(PREDICTION, strict=False), model)
        if PREDICTION not in table.columns or table.schema[PREDICTION] not in {pl.Float64, pl.Float32}:
            return empty
        found.append(losses(loss, label, table[PREDICTION].cast(pl.Float64).to_numpy()))
    kept = np.isfinite(found[0]) & np.isfinite(found[1])
    return Paired(found[0][kept], found[1][kept], labelled[order[0]].filter(pl.Series(kept)))


def _others(rows: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    """Give the rows that played no part in judging the versions."""
    named = rows.with_columns(pl.col(ROW_ID).cast(pl.String))
    return named.join(judged.unique(), on=ROW_ID, how="anti", maintain_order="left")


def _rows_of(stores: Stores, version: ModelVersion) -> pl.DataFrame:
    """Give the ids of every row of the run that made a version; none when its record is gone."""
    try:
        record = record_of(stores, version)
    except NotFoundError:
        return pl.DataFrame(schema={ROW_ID: pl.String})
    output = next((node.output for node in record.nodes if node.name == "features" and node.output), None)
    if output is None:
        return pl.DataFrame(schema={ROW_ID: pl.String})
    path = stores.artefacts.open(output.digest) / "rows.parquet"
    return pl.read_parquet(path, columns=[ROW_ID]).select(pl.col(ROW_ID).cast(pl.String))


def _shown(value: float) -> str:
    return f"{value:.5f}" if np.isfinite(value) else "?"
