"""Monitors replayed: what they read of the model in production, chunk by chunk, as labels come in with the simulated clock.

Enters: the rows that a model scores since it went into production. Leaves: the readings as triggers see them. The monitors, their
statistics and the cutting into chunks are those of `engine monitor`; a chunk is read again when labels came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import polars as pl

from engine.backtest.history import Models
from engine.loop.readings import Read, measured
from engine.loop_contracts import Measured
from engine.spec import rebuild
from engine.spec.monitoring import MonitorSpec, WatchSpec
from engine.watch.observations import Observations
from engine.watch.observe import ChunkReader, Watching
from engine.watch.observed import KNOWN_AT, PREDICTION, TIME
from engine.watch_records import Reading

_MIN_HELD = 1000
_WITHOUT_LABELS = frozenset({"drift", "prediction", "multivariate", "estimated"})


class Watch:
    """The monitors that a policy's triggers read, over one model after the other."""

    def __init__(self, settings: Mapping[str, Any], models: Models) -> None:
        self._models = models
        monitors = {name: _monitor(document, models) for name, document in settings["monitors"].items()}
        watch = msgspec.convert(settings["watch"], WatchSpec)
        self._watching = Watching(settings["pipeline"], watch, monitors, models.catalogue)
        self._reads_labels = any(spec.kind not in _WITHOUT_LABELS for spec in monitors.values())
        self._end = datetime.fromisoformat(settings["end"])
        self._reader: ChunkReader | None = None
        self._known: dict[tuple[str, str, str], Reading] = {}
        self._labelled: pl.DataFrame = pl.DataFrame()

    def serve(self, index: int, since: datetime) -> None:
        """Begin with a model that is in production from now on: only what is read of it counts."""
        self._known = {}
        if not self._watching.monitors:
            return
        seen = self._observe(index, since)
        self._labelled = seen.watched.select(TIME, KNOWN_AT)
        self._reader = ChunkReader(self._watching, seen)

    def read(self, now: datetime) -> Sequence[Measured]:
        """Read every chunk that has ended and may say something new since it was read last."""
        if self._reader is None:
            return ()
        found = self._reader.read(now, self._settled_until(now), _unheard)
        for reading in found.readings:
            self._known[reading.monitor, reading.chunk, reading.slice] = reading
        kept = [msgspec.convert(msgspec.to_builtins(reading), Read) for reading in self._known.values()]
        return measured(kept, None)

    def _settled_until(self, now: datetime) -> datetime | None:
        """Give the end of the last chunk of which nothing new is known since it was read; `None` when there is none."""
        settled: datetime | None = None
        for reading in sorted(self._known.values(), key=lambda item: item.end):
            end, at = datetime.fromisoformat(reading.end), datetime.fromisoformat(reading.at)
            new = (pl.col(TIME) < end) & (pl.col(KNOWN_AT) > at) & (pl.col(KNOWN_AT) <= now)
            if self._reads_labels and self._labelled.filter(new).height:
                break
            settled = end
        return settled

    def _observe(self, index: int, since: datetime) -> Observations:
        """Lay out what the model learned from, what was held out from it, and what it scores in production."""
        models, loaded = self._models, self._models.model(index)
        held = models.part(index, ("validation",))
        if held.height < _MIN_HELD:
            held = models.part(index, ("validation", "test"))
        watched = models.rows.filter((pl.col(TIME) >= since) & (pl.col(TIME) < self._end))
        held, watched = (
            rows.with_columns(pl.Series(PREDICTION, loaded.score(rows))) if rows.height else rows
            for rows in (held, watched)
        )
        types = {**loaded.program.spine.request, **loaded.program.output_types}
        columns = tuple(name for name, kind in types.items() if name in watched.columns and kind != "timestamp")
        trained = models.part(index, ("train",))
        facts = {
            "trained_until": trained[TIME].max() if trained.height else None,
            "known_columns": tuple(watched.columns),
        }
        return Observations(trained, held, watched, columns, "", loaded.target.task, facts)


def _monitor(document: Mapping[str, Any], models: Models) -> MonitorSpec:
    component = models.catalogue.get("monitor", document["kind"])
    return rebuild(MonitorSpec, document, msgspec.convert(document["params"], component.params))


def _unheard(chunk: str, done: int, all_: int) -> None:
    """Nobody listens."""
