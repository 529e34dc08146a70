"""Leakage: whether training knew what it is asked. Counts and measures; the gate says how much is too much.

Leaves `probe.json`, for each gate: rows of the test that training saw under another id, entities on both sides, features
that come out otherwise when only what was known at the row's time is there at all, columns that alone give the label
away, columns that are names of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.clock import isoformat
from engine.components import catalogue_of
from engine.contracts import Matrix, Work
from engine.evaluation.leakage import associate, category_rates, identity_of, shared_rows
from engine.features.compute import compute
from engine.features.program import EVENT_TIME, FeatureProgram, SourceProgram
from engine.keys import Json
from engine.nodes.features import LABEL, ROW_ID
from engine.nodes.frames import read_source, source_inputs, write_document
from engine.nodes.matrix import LoadedModel, load_model, read_parts, to_matrix
from engine.spec.probes import LeakageProbe

_LEVEL = 0.95
_EXAMPLES = 5
_MOST_ROWS = 100_000  # of each side
_MEASURED_ROWS = 10_000  # of each side, for what is measured column by column


@dataclass(frozen=True, slots=True)
class Sides:
    """The rows on both sides of the split; of some of them what the model sees, and when the training ones were."""

    model: LoadedModel
    train: pl.DataFrame
    test: pl.DataFrame
    seen: Matrix
    asked: Matrix
    moments: np.ndarray


def probe_leakage(work: Work) -> Mapping[str, Json]:
    """Look for every kind of leak that some gate asks about."""
    settings: Any = work.settings
    model = load_model(work.inputs["model"].path, catalogue_of(work.place))
    asked = {name: msgspec.convert(item, LeakageProbe) for name, item in settings["asked"].items()}
    entities = [item.entity for item in asked.values() if item.entity]
    program = model.program
    fields = (ROW_ID, EVENT_TIME, LABEL, *program.spine.request, *program.computed_names, *entities)
    parts = read_parts(work.inputs["rows"], work.inputs["split"], ("train", "test"), list(dict.fromkeys(fields)))
    train, test = (_thinned(part, _MOST_ROWS) for part in parts)
    few = [_thinned(part, _MEASURED_ROWS) for part in (train, test)]
    matrices = [to_matrix(program, model.fitted, rows, model.columns, model.target) for rows in few]
    moments = few[0][EVENT_TIME].dt.epoch("us").cast(pl.Float64).to_numpy()
    sides = Sides(model, train, test, matrices[0], matrices[1], moments)
    found = {name: _answer(item, sides, work) for name, item in asked.items()}
    write_document(work.out / "probe.json", found)
    return {name: list(item) for name, item in found.items()}


def _thinned(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """Keep at most so many rows, by a hash of their ids."""
    if rows.height <= most:
        return rows
    return rows[rows[ROW_ID].cast(pl.String).hash(seed=0).arg_sort().head(most).sort()]


def _answer(asked: LeakageProbe, sides: Sides, work: Work) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for check in dict.fromkeys(asked.checks):
        work.progress(f"leakage: {check}", None, None)
        match check:
            case "duplicates":
                found[check] = _duplicates(sides)
            case "entities":
                found[check] = _entities(sides, asked.entity)
            case "proxies":
                found[check] = _proxies(sides)
            case "ids":
                found[check] = _ids(sides)
            case "future":
                found[check] = _future(sides, asked.moments, work)
    return found


def _duplicates(sides: Sides) -> dict[str, Any]:
    """Count test rows with the request, features and label of a training row: the same event under another id."""
    program = sides.model.program
    columns = [name for name in (*program.spine.request, *program.computed_names, LABEL) if name in sides.train.columns]
    columns = list(dict.fromkeys((*columns, EVENT_TIME)))
    strict, loose = columns, [name for name in columns if name != EVENT_TIME]
    same = shared_rows(*(side.select(strict).hash_rows(seed=0).to_numpy() for side in (sides.train, sides.test)))
    seen, asked = (side.select(loose).hash_rows(seed=0).to_numpy() for side in (sides.train, sides.test))
    # Rows of few columns repeat one another by nature: how often a training row repeats an earlier one tells how often.
    half = len(seen) // 2
    usual = shared_rows(seen[:half], seen[half:]) / max(1, len(seen) - half)
    alike = shared_rows(seen, asked)
    return {"rows": sides.test.height, "alike": alike, "same_moment": same, "usual": usual}


def _entities(sides: Sides, entity: str | None) -> dict[str, Any]:
    if entity is None:
        return {"entity": None, "rows": sides.test.height, "shared": None}
    known = sides.train[entity].unique()
    shared = sides.test.filter(pl.col(entity).is_in(known.implode()))
    examples = shared[entity].unique().sort().head(_EXAMPLES).cast(pl.String).to_list()
    return {
        "entity": entity, "rows": sides.test.height, "shared": shared.height,
        "entities": shared[entity].n_unique(), "examples": examples,
    }  # fmt: skip


def _proxies(sides: Sides) -> dict[str, Any]:
    """Measure every column alone, the strongest first."""
    measured = []
    for index, name in enumerate(sides.model.columns):
        values = sides.asked.x[:, index]
        if name in sides.asked.categorical:
            values = category_rates(sides.seen.x[:, index], sides.seen.y, values)
        found = associate(name, values, sides.asked.y, _LEVEL)
        if found is not None:
            measured.append(asdict(found))
    measured.sort(key=lambda item: (-item["low"], item["column"]))
    return {"columns": len(sides.model.columns), "measured": len(measured), "level": _LEVEL, "strongest": measured[:10]}


def _ids(sides: Sides) -> dict[str, Any]:
    found = {}
    for index, name in enumerate(sides.model.columns):
        likeness = identity_of(sides.seen.x[:, index], sides.moments)
        if likeness is not None:
            found[name] = likeness
    return {"rows": len(sides.moments), "columns": found}


def _future(sides: Sides, moments: int, work: Work) -> dict[str, Any]:
    """Compute features of single rows from a history without anything that was not known then, and compare bits."""
    program = sides.model.program
    sources = source_inputs(work)
    history = {name: read_source(work, sources[name], program.source_columns(name)) for name in program.feature_sources}
    rows = pl.concat([sides.train, sides.test])
    chosen = rows[rows[ROW_ID].cast(pl.String).hash(seed=1).arg_sort().head(moments).sort()]
    differing: dict[str, list[str]] = {}
    for index in range(chosen.height):
        row = chosen[index]
        known = {name: _known_at(program.sources[name], frame, row) for name, frame in history.items()}
        made = compute(program, row, known)
        for name in program.computed_names:
            if not _same(made[name], row[name]):
                differing.setdefault(name, []).append(str(row[ROW_ID][0]))
    timeless = [name for name in program.feature_sources if program.sources[name].static]
    return {
        "rows": chosen.height,
        "features": len(program.computed_names),
        "differing": {name: ids[:_EXAMPLES] for name, ids in sorted(differing.items())},
        "timeless": _reading(program, timeless),
        "last": isoformat(chosen[EVENT_TIME].to_list()[-1]) if chosen.height else None,
    }


def _known_at(source: SourceProgram, frame: pl.DataFrame, row: pl.DataFrame) -> pl.DataFrame:
    """Give the rows of a source that had happened and were available at the row's time."""
    if source.static or source.time is None:
        return frame
    moment = pl.lit(row[EVENT_TIME][0])
    available = pl.col(source.available_column or source.time) + pl.duration(microseconds=source.delay)
    return frame.filter((pl.col(source.time) < moment) & (available <= moment))


def _same(left: pl.Series, right: pl.Series) -> bool:
    """Compare two values bit by bit; null is equal to null."""
    if left.dtype == pl.Float64 and right.dtype == pl.Float64:
        return left.null_count() == right.null_count() and left.to_numpy().tobytes() == right.to_numpy().tobytes()
    return bool(left.eq_missing(right).all())


def _reading(program: FeatureProgram, sources: list[str]) -> dict[str, list[str]]:
    """Name the features that read each of these sources; what has no time cannot be cut at one."""
    return {name: [step.name for step in program.steps if getattr(step, "source", None) == name] for name in sources}
