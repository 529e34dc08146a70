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

from engine.backtest.history import Models, read_rows
from engine.backtest.policies import reads_profiles
from engine.components import Catalogue
from engine.contracts import Work
from engine.features.steps import FeatureProgram
from engine.keys import Json
from engine.loop.readings import Read, measured
from engine.loop_contracts import Measured
from engine.spec import rebuild
from engine.spec.monitoring import MonitorSpec, WatchSpec
from engine.watch.observations import Observations
from engine.watch.observe import ChunkReader, Watching
from engine.watch.observed import KNOWN_AT, PREDICTION, TIME
from engine.watch.reference import build_reference, decode_reference, encode_reference, split_evenly
from engine.watch_records import Reading

_MIN_HELD = 1000
_REFERENCE, _FILE = "reference.", "reference.msgpack"
_WITHOUT_LABELS = frozenset({"drift", "prediction", "multivariate", "estimated"})


def refer(work: Work) -> Mapping[str, Json]:
    """Profile the rows that the model of a moment learned from, as its monitors' reference. The body of a node."""
    settings: Any = work.settings
    rows = read_rows(work.inputs["rows"])
    trained = Models(work.inputs, Catalogue(()), rows).part(settings["index"], ("train",))
    columns = _columns_of(FeatureProgram.from_json(settings["program"]), rows)
    reference = build_reference(split_evenly(trained, settings["chunks"]), columns, label="training")
    (work.out / _FILE).write_bytes(encode_reference(reference))
    return {"rows": trained.height, "columns": len(columns)}


def _columns_of(program: FeatureProgram, rows: pl.DataFrame) -> tuple[str, ...]:
    types = {**program.spine.request, **program.output_types}
    return tuple(name for name, kind in types.items() if name in rows.columns and kind != "timestamp")


class Watch:
    """The monitors that a policy's triggers read, over one model after the other."""

    def __init__(self, settings: Mapping[str, Any], models: Models) -> None:
        self._models = models
        monitors = {name: _monitor(document, models) for name, document in settings["monitors"].items()}
        watch = msgspec.convert(settings["watch"], WatchSpec)
        self._watching = Watching(settings["pipeline"], watch, monitors, models.catalogue)
        self._reads_labels = any(spec.kind not in _WITHOUT_LABELS for spec in monitors.values())
        self._profiles = reads_profiles(spec.kind for spec in monitors.values())
        self._reader: ChunkReader | None = None
        self._known: dict[tuple[str, str, str], Reading] = {}
        self._index = self._scored_to = 0
        self._watched = models.rows[:0]

    def serve(self, index: int, since: datetime) -> None:
        """Begin with a model that is in production from now on: only what is read of it counts."""
        self._known = {}
        if not self._watching.monitors:
            return
        self._index, self._scored_to = index, self._models.place(since)
        self._watched = self._models.rows[:0]
        made = self._models.inputs.get(f"{_REFERENCE}{index}")
        reference = decode_reference((made.path / _FILE).read_bytes()) if made is not None else None
        self._reader = ChunkReader(self._watching, self._observe(index), reference)

    def read(self, now: datetime) -> Sequence[Measured]:
        """Read every chunk that has ended and may say something new since it was read last."""
        if self._reader is None:
            return ()
        self._score(now)
        self._reader.watch(self._watched)
        found = self._reader.read(now, self._settled_until(now), _unheard)
        for reading in found.readings:
            self._known[reading.monitor, reading.chunk, reading.slice] = reading
        kept = [msgspec.convert(msgspec.to_builtins(reading), Read) for reading in self._known.values()]
        return measured(kept, None)

    def _score(self, now: datetime) -> None:
        """Score the rows that came since it was read last: of later ones nothing may be known, and the model may be gone by then."""
        place = self._models.place(now)
        if place > self._scored_to:
            part = self._models.rows[self._scored_to : place]
            scores = self._models.scores(self._index, self._scored_to, place)
            part = part.with_columns(pl.Series(PREDICTION, scores))
            self._watched = pl.concat([self._watched, part]) if self._watched.height else part
            self._scored_to = place

    def _settled_until(self, now: datetime) -> datetime | None:
        """Give the end of the last chunk of which nothing new is known since it was read; `None` when there is none."""
        settled: datetime | None = None
        for reading in sorted(self._known.values(), key=lambda item: item.end):
            end, at = datetime.fromisoformat(reading.end), datetime.fromisoformat(reading.at)
            new = (pl.col(TIME) < end) & (pl.col(KNOWN_AT) > at) & (pl.col(KNOWN_AT) <= now)
            if self._reads_labels and self._watched.filter(new).height:
                break
            settled = end
        return settled

    def _observe(self, index: int) -> Observations:
        """Lay out what the model learned from and what was held out from it; what it scores in production comes later."""
        models, loaded = self._models, self._models.model(index)
        held = models.part(index, ("validation",))
        if held.height < _MIN_HELD:
            held = models.part(index, ("validation", "test"))
        if held.height:
            held = held.with_columns(pl.Series(PREDICTION, loaded.score(held)))
        columns = _columns_of(loaded.program, models.rows)
        trained = models.part(index, ("train",))
        facts = {
            "trained_until": trained[TIME].max() if trained.height else None,
            "known_columns": tuple(models.rows.columns),
        }
        watched = models.rows[:0]
        return Observations(trained, held, watched, columns if self._profiles else (), "", loaded.target.task, facts)


def _monitor(document: Mapping[str, Any], models: Models) -> MonitorSpec:
    component = models.catalogue.get("monitor", document["kind"])
    return rebuild(MonitorSpec, document, msgspec.convert(document["params"], component.params))


def _unheard(chunk: str, done: int, all_: int) -> None:
    """Nobody listens."""
