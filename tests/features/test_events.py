"""Events as arrays: what goes in comes out, and every row of a key is found."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings

from engine.features.events import FrameReader, Values, events_of, joins_of, values_of
from tests.features import worlds as w

COLUMNS: dict[str, list[Any]] = {
    "str": ["b", None, "", "é", "a", "b", "\U0001f600"],
    "f64": [0.5, None, -1e300, 0.0],
    "i64": [None, 2**63 - 1, -(2**63), 0],
    "bool": [True, None, False],
    "timestamp": [None, 0, -62_135_596_800_000_000, 253_402_300_799_999_999],
}


@pytest.mark.parametrize("type_", COLUMNS)
@pytest.mark.parametrize("count", [0, 1, 99])
def test_values_come_back_as_they_went_in(type_: str, count: int) -> None:
    values = COLUMNS[type_][:count]
    frame = w.to_frame([{"x": value} for value in values], {"x": type_})
    for made in (Values.of(type_, values), values_of(frame["x"], type_)):
        assert w.bits(pl.DataFrame([made.series("x")])) == w.bits(frame)
        assert [made[row] for row in range(len(values))] == values
        assert list(made.texts) == sorted(set(made.texts))


@settings(max_examples=w.examples(20), deadline=None)
@given(w.scenes())
def test_a_reader_of_frames_finds_each_row_of_a_key_once(scene: w.Scene) -> None:
    reader = FrameReader(scene.program, scene.history, scene.world.as_of)
    for join in joins_of(scene.program):
        everything = events_of(scene.program.sources[join.source], scene.history[join.source], scene.world.as_of)
        keys = [tuple(everything.columns[name][row] for name, _ in join.on) for row in range(everything.count)]
        for key in set(keys):
            found = reader.read(join, key, 0)
            rows = [row for row, other in enumerate(keys) if other == key]
            assert found.time.tolist() == everything.time[rows].tolist()
            assert reader.read(join, key, 5) is found
        assert reader.read(join, tuple("nobody" for _ in join.on), 0).count == (0 if join.on else everything.count)
