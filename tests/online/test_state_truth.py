"""Any program over any history: batch, single rows and the online state give the same bits, in whatever order events came."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.features.compute import compute
from engine.online import buckets
from engine.online.memory import MemoryCells
from engine.online.state import EventState
from tests.features.worlds import Scene, bits, examples, scenes


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


@settings(max_examples=examples(10), deadline=None, suppress_health_check=list(HealthCheck))
@given(scenes(), st.integers(0, 2**32))
def test_online_is_batch_is_single(scene: Scene, seed: int) -> None:
    as_of = scene.world.as_of
    batch = bits(compute(scene.program, scene.spine, scene.history, as_of=as_of))
    state = EventState(scene.program, MemoryCells())
    fill(state, scene, random.Random(seed))
    together: Any = state.read(scene.spine, as_of)
    assert bits(compute(scene.program, scene.spine, together, as_of=as_of)) == batch
    for row in range(scene.spine.height):
        one = scene.spine[row : row + 1]
        assert bits(compute(scene.program, one, state.read(one, as_of), as_of=as_of)) == batch[row : row + 1]
