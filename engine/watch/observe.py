"""Read every chunk with every monitor: from observations to readings. One broken monitor never silences another.

Enters: a declaration, observations, and the moment that is now. Leaves: readings in order of chunk and monitor, and what the
report draws. Called by `engine monitor` and by the tick. Deterministic in its arguments.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from engine.api import Declared
from engine.clock import isoformat
from engine.components import Catalogue
from engine.spec.monitoring import MonitorSpec, WatchSpec
from engine.watch.chunks import Chunk, cut
from engine.watch.compare import Rules
from engine.watch.levels import UNTESTED, level_for, level_of_slice
from engine.watch.observations import Observations, visible
from engine.watch.observed import PREDICTION, Monitor, Observed, Past, Said
from engine.watch.profile import Profile, profile_rows
from engine.watch.reference import Reference, build_reference, split_evenly
from engine.watch.sequential import WINDOWS
from engine.watch_records import Reading

Heard = Callable[[str, int, int], None]
"""`heard(chunk, done, all)` while reading."""


@dataclass(frozen=True)
class Watched:
    """What reading gave: readings, and by chunk its profile, for pictures and for the next windows."""

    readings: tuple[Reading, ...]
    reference: Reference | None
    profiles: Mapping[str, Profile]
    chunks: Sequence[Chunk]


@dataclass(frozen=True)
class Watching:
    """What decides how chunks are read: the pipeline's name, how it is watched, by which monitors, and their components."""

    pipeline: str
    watch: WatchSpec
    monitors: Mapping[str, MonitorSpec]
    catalogue: Catalogue


def read_chunks(declared: Declared, seen: Observations, now: datetime, since: datetime | None, heard: Heard) -> Watched:
    """Read every chunk that has ended by `now` and has rows after `since`; earlier ones still count as the past."""
    spec = declared.spec
    return ChunkReader(Watching(spec.name, spec.watch, spec.monitors, declared.catalogue), seen).read(now, since, heard)


class ChunkReader:
    """Reads one model's chunks at one moment or, for a simulated clock, at many: what moments share is made once."""

    def __init__(self, watching: Watching, seen: Observations, reference: Reference | None = None) -> None:
        """`reference` is that of the training rows, when it was made before; see `build_reference`."""
        self._watching, self._seen = watching, seen
        self._built = {name: (spec, _build(watching, spec)) for name, spec in watching.monitors.items()}
        self._shared = _Shared(seen, watching.watch, reference)
        self._closed: dict[str, Profile] = {}

    def watch(self, rows: pl.DataFrame) -> None:
        """Take other rows to watch: those of before, and those that came since."""
        self._seen = replace(self._seen, watched=rows)

    def read(self, now: datetime, since: datetime | None, heard: Heard) -> Watched:
        """Read as `read_chunks` does."""
        watch = self._watching.watch
        rows = visible(self._seen.watched, now)
        chunks = [chunk for chunk in cut(rows, watch.chunk) if chunk.end <= now or watch.chunk.by is None]
        readings: list[Reading] = []
        profiles: dict[str, Profile] = {}
        wanted = [chunk for chunk in chunks if since is None or chunk.end > since]
        for index, chunk in enumerate(chunks):
            reference, past = self._shared.reference_for(chunks, index)
            if reference is None:
                continue
            profiles[chunk.name] = self._profile(chunk, reference)
            if chunk not in wanted:
                continue
            heard(chunk.name, len(readings), len(wanted))
            observed = self._shared.observe(chunk, chunks[:index], (reference, past), profiles, now)
            for name, (spec, monitor) in self._built.items():
                readings += _read(self._watching, name, spec, monitor, observed)
        return Watched(tuple(readings), self._shared.last, profiles, chunks)

    def _profile(self, chunk: Chunk, reference: Reference) -> Profile:
        """Profile a chunk's features; one cut by time that has ended gets no more rows, and is profiled once."""
        watch = self._watching.watch
        if watch.chunk.by is None or watch.reference != "training":
            return profile_rows(chunk.rows, reference.frozen, name=chunk.name)
        if chunk.name not in self._closed:
            self._closed[chunk.name] = profile_rows(chunk.rows, reference.frozen, name=chunk.name)
        return self._closed[chunk.name]


def _build(watching: Watching, spec: MonitorSpec) -> Monitor:
    made: Monitor = watching.catalogue.get("monitor", spec.kind).build(spec.params)
    return made


class _Shared:
    """What chunks have in common: references, made once where they are the same."""

    def __init__(self, seen: Observations, watch: WatchSpec, made: Reference | None) -> None:
        self._seen, self._watch, self._made = seen, watch, made
        self._training: tuple[Reference, Past] | None = None
        self._scores: Reference | None = None
        self._held = split_evenly(seen.held_out, watch.reference_chunks) if seen.held_out.height else []
        self.last: Reference | None = None
        self._kept: dict[str, Any] = {}

    def reference_for(self, chunks: Sequence[Chunk], index: int) -> tuple[Reference | None, Past]:
        """Give the reference of one chunk, which is never part of it."""
        if self._watch.reference == "training":
            if self._training is None:
                parts = split_evenly(self._seen.trained, self._watch.reference_chunks)
                made = self._made or build_reference(parts, self._columns(), label="training")
                self._training = (made, Past(parts, self._held))
            self.last = self._training[0]
            return self._training
        before = [chunk for chunk in chunks[:index] if chunk.rows.height]
        if self._watch.reference == "same_weekday":
            before = [chunk for chunk in before if chunk.start.weekday() == chunks[index].start.weekday()]
        parts = [chunk.rows for chunk in before[-self._watch.reference_chunks :]]
        if not parts:
            parts = split_evenly(self._seen.trained, self._watch.reference_chunks) if self._seen.trained.height else []
        if not parts:
            return None, Past((), self._held)
        reference = build_reference(parts, self._columns(), label=self._watch.reference)
        self.last = reference
        return reference, Past(parts, self._held or parts)

    def _columns(self) -> list[str]:
        return [
            name for name in self._seen.columns if name in self._seen.trained.columns or not self._seen.trained.width
        ]

    def observe(
        self,
        chunk: Chunk,
        before: Sequence[Chunk],
        known: tuple[Reference, Past],
        profiles: Mapping[str, Profile],
        now: datetime,
    ) -> Observed:
        """Put together what a monitor sees of a chunk."""
        reference, past = known
        recent = [profiles[item.name] for item in before[-WINDOWS[-1] :] if item.name in profiles]
        volumes = [item.rows.height for item in before[-20:]] if self._watch.chunk.by is not None else []
        fixed = self._watch.reference == "training"
        observed = Observed(
            name=chunk.name,
            start=chunk.start,
            end=chunk.end,
            rows=chunk.rows,
            profile=profiles[chunk.name],
            reference=reference,
            past=past,
            rules=Rules(self._watch.level, self._watch.effect, self._watch.min_rows),
            task=self._seen.task,
            columns=self._seen.columns,
            now=now,
            recent=recent if fixed else (),
            run_length=self._watch.run_length,
            mode=self._watch.mode,
            facts={**self._seen.facts, "volumes": volumes, "kept": self._kept if fixed else {}},
        )
        return replace(observed, shared=self._predictions(observed))

    def _predictions(self, observed: Observed) -> dict[str, Any]:
        """Compare the score with held-out rows, whose scores are those of rows that the model had not seen."""
        held = [part for part in observed.past.held_out if PREDICTION in part.columns]
        if PREDICTION not in observed.rows.columns or not held:
            return {}
        if self._scores is None or self._watch.reference != "training":
            self._scores = build_reference(held, [PREDICTION], label="held out")
        profile = profile_rows(observed.rows, self._scores.frozen)
        means = tuple(_mean(rows) for rows in (pl.concat(held, how="vertical_relaxed"), observed.rows))
        return {"scores": (self._scores, profile), "prediction_means": means}


def _mean(rows: pl.DataFrame) -> float | None:
    values = rows[PREDICTION].cast(pl.Float64).to_numpy()
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _read(watching: Watching, name: str, spec: MonitorSpec, monitor: Monitor, observed: Observed) -> Iterator[Reading]:
    rules = observed.rules
    level = level_for(name, watching.monitors, rules.level)
    rules = replace(rules, level=level, effect=rules.effect if spec.effect is None else spec.effect)
    own = replace(observed, columns=_chosen(spec.columns, observed.columns), rules=rules)
    sliced = () if spec.kind in UNTESTED else [
        (column, value, part)
        for column in spec.slices or watching.watch.slices
        if column in observed.rows.columns
        for value, part in _slices(observed.rows, column)
    ]  # fmt: skip
    if sliced:
        own = replace(own, rules=replace(rules, level=level_of_slice(level, 1)))
        rules = replace(rules, level=level_of_slice(level, len(sliced)))
    yield _reading(watching, name, own, _of_rows(_guarded(monitor, own), own, spec), "")
    for column, value, part in sliced:
        slice_ = _slice_of(replace(own, rules=rules), column, value, part)
        yield _reading(watching, name, slice_, _guarded(monitor, slice_), f"{column}={value}")


def _of_rows(said: Said, observed: Observed, spec: MonitorSpec) -> Said:
    """Nothing can be well in a chunk without rows; that there are none may be an alarm."""
    if observed.rows.height or said.status == "alarm" or spec.kind == "staleness":
        return said
    return Said("insufficient_data", "the chunk has no rows")


def _guarded(monitor: Monitor, observed: Observed) -> Said:
    try:
        return monitor.read(observed)
    except Exception as error:  # noqa: BLE001 - a monitor that breaks is a finding, and the others still read
        text = str(error).splitlines()[0] if str(error) else "no more is known"
        return Said("broken", f"the monitor failed: {type(error).__name__}: {text}")


def _chosen(wanted: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    if not wanted:
        return tuple(columns)
    return tuple(name for name in columns if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted))


def _slices(rows: pl.DataFrame, column: str) -> Iterator[tuple[str, pl.DataFrame]]:
    for (value,), part in sorted(rows.group_by(column, maintain_order=True), key=lambda item: str(item[0][0])):
        yield "(null)" if value is None else str(value), part


def _slice_of(observed: Observed, column: str, value: str, part: pl.DataFrame) -> Observed:
    """Compare a slice with the same slice of the reference; made once a chunk for all monitors."""
    known: dict[tuple[str, str], Observed] = observed.shared.setdefault("slices", {})
    if (column, value) not in known:
        known[column, value] = _make_slice(observed, column, value, part)
    return replace(known[column, value], columns=observed.columns, rules=observed.rules)


def _make_slice(observed: Observed, column: str, value: str, part: pl.DataFrame) -> Observed:
    kept: dict[tuple[str, str], Any] = observed.facts.get("kept", {}).setdefault("slices", {})
    if (column, value) not in kept:
        kept[column, value] = _slice_reference(observed, column, value)
    past, reference, scores, mean = kept[column, value]
    shared: dict[str, Any] = {}
    if scores is not None and PREDICTION in part.columns:
        shared = {"scores": (scores, profile_rows(part, scores.frozen)), "prediction_means": (mean, _mean(part))}
    facts = {
        key: item for key, item in observed.facts.items() if key not in {"volumes", "unknown_labels", "again", "kept"}
    }
    return replace(
        observed, rows=part, profile=profile_rows(part, reference.frozen), reference=reference, past=past, recent=(),
        facts=facts, shared=shared,
    )  # fmt: skip


def _slice_reference(
    observed: Observed, column: str, value: str
) -> tuple[Past, Reference, Reference | None, float | None]:
    """Give the slice of the reference: rows, profiles, profiles of its scores and their mean."""

    def same(chunks: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
        texts = pl.col(column).cast(pl.String).fill_null("(null)") == value
        return [rows.filter(texts) for rows in chunks if column in rows.columns]

    past = Past(same(observed.past.chunks), same(observed.past.held_out))
    held = [rows for rows in past.held_out if rows.height and PREDICTION in rows.columns]
    reference = build_reference(past.chunks, [item.name for item in observed.reference.frozen.columns])
    if not held:
        return past, reference, None, None
    return past, reference, build_reference(held, [PREDICTION]), _mean(pl.concat(held, how="vertical_relaxed"))


def _reading(watching: Watching, name: str, observed: Observed, said: Said, slice_: str) -> Reading:
    spec = watching.monitors[name]
    return Reading(
        pipeline=watching.pipeline,
        monitor=name,
        kind=spec.kind,
        chunk=observed.name,
        start=isoformat(observed.start),
        end=isoformat(observed.end),
        rows=observed.rows.height,
        status=said.status,
        severity=spec.severity,
        slice=slice_,
        value=said.value,
        low=said.low,
        high=said.high,
        expected=said.expected,
        coverage=said.coverage,
        words=said.words,
        findings=said.findings,
        details=dict(said.details),
        at=isoformat(observed.now),
    )
