"""Logged requests, computed again: what was served against what the program gives at the recorded commit, bit for bit.

Enters: the prediction log of a package, the snapshots, the journal of pushed events. Leaves: a `ParityReport`. Requests are
sampled by a hash of their key, so that the same entities are looked at every time. Of the snapshot the commit counts that
the state had when it answered; of pushed events those received by then. Called by `engine features parity` and by the
parity monitor (`measure_parity`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.clock import stopwatch
from engine.contracts import SnapshotStore
from engine.errors import EngineError
from engine.features.compute import compute
from engine.features.lineage import sources_behind
from engine.features.lowered_functions import DTYPES
from engine.features.steps import EVENT_TIME
from engine.nodes.matrix import to_matrix
from engine.online.comparing import Compared, compare_columns, total_of
from engine.online.materialise import Published
from engine.online_records import FeatureParity, ParityDifference, ParityReport
from engine.serve.events import type_events
from engine.serve.mistakes import RefusedError
from engine.serve.package import Served
from engine.serve.segments import read_frames, segment_files
from engine.serve.states import JournalEntry

_SHOWN = 20
_entry = msgspec.msgpack.Decoder(JournalEntry)
_BUCKETS = 1_000_000


@dataclass(frozen=True, slots=True)
class Logged:
    """What to look at: the log of one package, the share of keys, the most rows."""

    served: Served
    rows: pl.DataFrame
    share: float = 1.0
    most: int = 10_000


@dataclass
class Replayer:
    """Computes logged rows again. `published` says where each source lies; `journal` has the pushed events."""

    served: Served
    store: SnapshotStore
    published: Mapping[str, Published]
    journal: Sequence[JournalEntry] = ()
    reasons: dict[str, int] = field(default_factory=dict)
    _snapshots: dict[tuple[str, str], pl.DataFrame] = field(default_factory=dict)

    def replay(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows that could be computed, and the model's inputs for them, doubles with NaN for null."""
        kept, made = [], []
        for (state,), part in rows.group_by("state", maintain_order=True):
            try:
                commits = self._commits(str(state))
                history = self._history(commits, int(part["served_at"].dt.epoch("us").max() or 0))  # type: ignore[arg-type]
                found = self._inputs(part, history)
            except EngineError as error:
                self.reasons[error.message] = self.reasons.get(error.message, 0) + part.height
                continue
            found = self._again(part, found, commits)
            kept.append(part)
            made.append(found)
        return (pl.concat(kept), pl.concat(made)) if made else (rows.clear(), self._inputs(rows.clear(), {}))

    def _again(self, part: pl.DataFrame, found: pl.DataFrame, commits: Mapping[str, str | None]) -> pl.DataFrame:
        """Rows that differ are computed once more, each with exactly what had been pushed when it was answered."""
        served = part["features"].struct.unnest()
        differs = np.flatnonzero(np.any([item.differs for item in compare_columns(served, found).values()], axis=0))
        if not self.journal or not len(differs):
            return found
        for row in differs.tolist():
            one = part[row : row + 1]
            history = self._history(commits, int(one["served_at"].dt.epoch("us").item()))
            fresh = self._inputs(one, history)
            found = pl.concat([found[:row], fresh, found[row + 1 :]])
        return found

    def _inputs(self, rows: pl.DataFrame, history: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        program, model = self.served.program, self.served.model
        if not rows.height:
            return pl.DataFrame(schema=dict.fromkeys(self.served.columns, pl.Float64))
        spine = rows.select(EVENT_TIME).hstack(rows["request"].struct.unnest().get_columns())
        features = compute(program, spine, history)
        table = spine.hstack(features.drop([name for name in features.columns if name in spine.columns]).get_columns())
        x = to_matrix(program, model.fitted, table, self.served.columns).x
        return pl.DataFrame(x, schema=list(self.served.columns))

    def _commits(self, state: str) -> dict[str, str | None]:
        marks = msgspec.json.decode(state) if state else {}
        return {name: (marks.get(name) or {}).get("commit") for name in self.served.program.feature_sources}

    def _history(self, commits: Mapping[str, str | None], received_by: int) -> dict[str, pl.DataFrame]:
        made = {}
        for name, commit in commits.items():
            frames = [self._snapshot(name, commit)] if commit is not None else []
            frames += self._events(name, received_by)
            types = self.served.program.sources[name].columns
            empty = pl.DataFrame(schema={column: DTYPES[type_] for column, type_ in types.items()})
            made[name] = pl.concat([empty, *(frame.select(*types) for frame in frames)], how="vertical_relaxed")
        return made

    def _snapshot(self, name: str, commit: str) -> pl.DataFrame:
        if (name, commit) not in self._snapshots:
            place, columns = self.published[name], list(self.served.program.source_columns(name))
            objects = self.store.list(place.repository, commit, f"{name}/")
            paths = [
                self.store.fetch(place.repository, commit, item.path)
                for item in objects
                if item.path.endswith(".parquet")
            ]
            self._snapshots[name, commit] = pl.read_parquet(paths, columns=columns, glob=False)
        return self._snapshots[name, commit]

    def _events(self, name: str, received_by: int) -> list[pl.DataFrame]:
        source = self.served.sources.get(name)
        found: list[pl.DataFrame] = []
        seen: set[str] = set()
        for entry in self.journal:
            if source is None or entry.source != name or entry.received_at > received_by or entry.token in seen:
                continue
            seen.add(entry.token)
            with suppress(RefusedError):  # what does not fit was never in this program's state
                found.append(type_events(source, entry.events, entry.token).rows)
        return found


def read_journal(folder: Path) -> list[JournalEntry]:
    """The events that were pushed to a model's servers, in order of receipt; what is being written now may be missing."""
    found: list[JournalEntry] = []
    for path in segment_files(folder):
        with suppress(FileNotFoundError):
            frames = read_frames(path)
            next(frames, None)
            found += [_entry.decode(frame) for frame in frames]
    return sorted(found, key=lambda entry: entry.received_at)


def measure_parity(logged: Logged, replayer: Replayer) -> ParityReport:
    """Compare a sample of logged requests with what they should have been; nothing is written."""
    started = stopwatch()
    rows = sample_by_key(logged)
    kept, found = replayer.replay(rows)
    served = kept["features"].struct.unnest().select(found.columns) if kept.height else found
    compared = compare_columns(_null_for_nan(served), _null_for_nan(found))
    lags = _lags(kept)
    program = logged.served.program
    features = tuple(
        _feature(name, item, [lags[source] for source in sources_behind(program, name) if source in lags])
        for name, item in compared.items()
    )
    total = total_of({item.feature: msgspec.structs.asdict(item) for item in features})
    clean = total["compared"] > 0 and not (total["mismatches"] or total["missing"] or total["extra"])
    return ParityReport(
        model=logged.served.label,
        ok=clean and kept.height == rows.height,
        predictions=logged.rows.height,
        sampled=rows.height,
        skipped=rows.height - kept.height,
        smape=float(np.mean([item.smape for item in features])) if features else 0.0,
        features=features,
        differences=_differences(kept, served, found, compared),
        reasons=dict(replayer.reasons),
        seconds=stopwatch() - started,
        **total,
    )


def sample_by_key(logged: Logged) -> pl.DataFrame:
    """The share of rows whose key falls into it: all rows of an entity, or none; at most so many, the latest."""
    if not logged.rows.height:
        return logged.rows
    program, rows = logged.served.program, logged.rows
    key = [name for name in program.sources[program.spine.source].key if name in program.spine.request]
    fields = rows["request"].struct.unnest().select(key or list(program.spine.request))
    place = fields.hash_rows(seed=0) % _BUCKETS
    return rows.filter(place < int(logged.share * _BUCKETS)).tail(logged.most)


def _null_for_nan(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.all().fill_nan(None))


def _feature(name: str, item: Compared, lags: list[np.ndarray[Any, Any]]) -> FeatureParity:
    behind = np.max(lags, axis=0) if lags else np.empty(0)
    known = behind[np.isfinite(behind)] if len(behind) else behind
    return FeatureParity(
        feature=name,
        lag_median=float(np.median(known)) if len(known) else None,
        lag_max=float(known.max()) if len(known) else None,
        **item.counts(),
    )


def _lags(rows: pl.DataFrame) -> dict[str, np.ndarray[Any, Any]]:
    """By source and row, how many seconds the state's latest event was behind the request's time; NaN when unknown."""
    if not rows.height:
        return {}
    times = rows[EVENT_TIME].dt.epoch("us").to_numpy()
    decoded = {state: msgspec.json.decode(state) if state else {} for state in rows["state"].unique().to_list()}
    marks = [decoded[state] for state in rows["state"].to_list()]
    sources = {name for mark in decoded.values() for name in mark}
    made = {}
    for name in sources:
        known = [(mark.get(name) or {}).get("available") for mark in marks]
        latest = np.array([np.nan if moment is None else moment for moment in known], dtype=np.float64)
        made[name] = np.maximum(times - latest, 0) / 1e6
    return made


def _differences(
    rows: pl.DataFrame, served: pl.DataFrame, found: pl.DataFrame, compared: Mapping[str, Compared]
) -> tuple[ParityDifference, ...]:
    each = max(1, _SHOWN // max(len(compared), 1))
    places = [(name, row) for name, item in compared.items() for row in np.flatnonzero(item.differs)[:each].tolist()]
    return tuple(
        ParityDifference(
            prediction_id=rows["prediction_id"][row],
            feature=name,
            served=_show(served[name][row]),
            recomputed=_show(found[name][row]),
        )
        for name, row in places[:_SHOWN]
    )


def _show(value: Any) -> str:
    return "null" if value is None or math.isnan(value) else float(value).hex()
