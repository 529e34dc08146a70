"""Any program over any history: batch, single rows and the online state give the same bits, in whatever order events came."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.features.compute import compute
from engine.features.prepared import prepare
from engine.online import buckets
from engine.online.memory import MemoryCells
from engine.online.opening import register
from engine.online.reader import StateReader
from engine.online.state import EventState
from engine.online_contracts import Cells
from tests.features.worlds import Scene, bits, bits_of, examples, scenes


@pytest.fixture(autouse=True, scope="module")
def _small_buckets() -> Iterator[None]:
    """Seal after a few rows, so that a few rows fill several chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "TAIL_ROWS", 3)
        patch.setattr(buckets, "CHUNK_ROWS", 7)
        yield


def fill(state: EventState, scene: Scene, chance: random.Random) -> None:
    """Push all events, shuffled, in batches of random size, some of them twice."""
    for name in scene.program.feature_sources:
        frame = scene.history[name]
        order = chance.sample(range(frame.height), frame.height)
        start = 0
        while start < len(order):
            size = chance.choice([1, 2, 5, 20])
            part = frame[order[start : start + size]]
            state.push(name, part)
            if is_told_apart(scene, name, part) and chance.random() < 0.3:
                state.push(name, part)
            start += size


def is_told_apart(scene: Scene, name: str, part: pl.DataFrame) -> bool:
    id_ = scene.program.sources[name].id
    return scene.program.sources[name].static or (id_ is not None and part[id_].null_count() == 0)


def agrees(scene: Scene, state: EventState, chance: random.Random) -> None:
    as_of = scene.world.as_of
    batch = bits(compute(scene.program, scene.spine, scene.history, as_of=as_of))
    fill(state, scene, chance)
    together: Any = state.read(scene.spine, as_of)
    assert bits(compute(scene.program, scene.spine, together, as_of=as_of)) == batch
    for row in range(scene.spine.height):
        one = scene.spine[row : row + 1]
        assert bits(compute(scene.program, one, state.read(one, as_of), as_of=as_of)) == batch[row : row + 1]


def served(scene: Scene, state: EventState) -> list[tuple[Any, ...]]:
    """Row after row as a scorer asks: from arrays, with one reader, so that buckets are read from what it kept."""
    prepared, reader = prepare(scene.program), StateReader(state)
    fields = {"event_time", *scene.program.spine.request}
    plain = scene.spine.with_columns(pl.selectors.datetime().dt.epoch("us")).select(sorted(fields))
    rows = [prepared.features(request, reader) for request in plain.iter_rows(named=True)]
    with reader.moment():
        again = [prepared.features(request, reader) for request in plain.iter_rows(named=True)]
    assert [tuple(map(bits_of, row)) for row in again] == [tuple(map(bits_of, row)) for row in rows]
    return [tuple(map(bits_of, row)) for row in rows]


@settings(max_examples=examples(8), deadline=None, suppress_health_check=list(HealthCheck))
@given(scenes(), st.integers(0, 2**32))
def test_a_scorer_reads_the_same_bits(scene: Scene, seed: int) -> None:
    if scene.world.as_of is not None:
        return
    state = EventState(scene.program, MemoryCells())
    fill(state, scene, random.Random(seed))
    assert served(scene, state) == bits(compute(scene.program, scene.spine, scene.history))


@settings(max_examples=examples(8), deadline=None, suppress_health_check=list(HealthCheck))
@given(scenes(), st.integers(0, 2**32))
def test_online_is_batch_is_single(scene: Scene, seed: int) -> None:
    agrees(scene, EventState(scene.program, MemoryCells()), random.Random(seed))


def test_every_store_gives_the_same_bits(opener: Callable[[str], Cells]) -> None:
    cells = opener("truth")

    @settings(max_examples=examples(3), deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(scenes(), st.integers(0, 2**32))
    def each(scene: Scene, seed: int) -> None:
        cells.clear()
        agrees(scene, register(cells, scene.program, "2024-01-01T00:00:00Z"), random.Random(seed))

    each()


@settings(max_examples=examples(4), deadline=None, suppress_health_check=list(HealthCheck))
@given(scenes(), st.integers(0, 2**32))
def test_what_was_retracted_was_never_there(scene: Scene, seed: int) -> None:
    chance = random.Random(seed)
    state = EventState(scene.program, MemoryCells())
    fill(state, scene, chance)
    gone = scene.history["ev"].sample(fraction=0.5, shuffle=True, seed=seed)
    kept = dict(scene.history)
    for row in range(gone.height):
        kept["ev"] = without(kept["ev"], gone[row : row + 1])
    id_ = scene.program.sources["ev"].id
    if id_ is not None:  # of equal events with an id the state holds one
        kept["ev"] = kept["ev"].filter(~has_twin(kept["ev"], gone)) if gone.height else kept["ev"]
    state.retract("ev", gone)
    expected = bits(compute(scene.program, scene.spine, kept))
    assert bits(compute(scene.program, scene.spine, state.read(scene.spine))) == expected


def plain(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Rows as the program sees them: strange doubles are null, and there is one zero."""
    value = pl.col("v")
    return frame.with_columns(pl.when(value == 0).then(0.0).when(value.is_finite()).then(value).alias("v")).rows()


def without(frame: pl.DataFrame, one: pl.DataFrame) -> pl.DataFrame:
    rows = plain(frame)
    place = rows.index(plain(one)[0])
    return pl.concat([frame[:place], frame[place + 1 :]])


def has_twin(frame: pl.DataFrame, gone: pl.DataFrame) -> pl.Series:
    removed = {row for row in plain(gone) if row[gone.columns.index("id")] is not None}
    return pl.Series([row in removed for row in plain(frame)], dtype=pl.Boolean)
