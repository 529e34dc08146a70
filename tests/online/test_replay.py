"""The parity replay: silent when both sides agree, and loud when either is broken."""

from __future__ import annotations

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from engine.features.compute import compute
from engine.features.program import FeatureProgram, Window
from engine.online.replay import Sampling, differing, replay
from engine.online.writing import Writer
from tests.features.worlds import Scene, examples, scenes
from tests.online.killed_writer import events, program


def trained(
    scene_program: FeatureProgram, spine: pl.DataFrame, history: dict[str, pl.DataFrame], as_of: int | None
) -> pl.DataFrame:
    made = compute(scene_program, spine, history, as_of=as_of)
    return spine.hstack(made.drop("row_id", strict=False))


@settings(max_examples=examples(5), deadline=None, suppress_health_check=list(HealthCheck))
@given(scenes())
def test_the_same_program_differs_nowhere(scene: Scene) -> None:
    as_of = scene.world.as_of
    rows = trained(scene.program, scene.spine, scene.history, as_of)
    found = replay(scene.program, rows, scene.history, Sampling(), as_of)
    assert found["rows"] == rows.height
    ways = 2 if as_of is None else 1  # by frames and by arrays
    assert found["compared"] == ways * rows.height * len(scene.program.computed_names)
    assert differing(found) == []


def world() -> tuple[FeatureProgram, pl.DataFrame, dict[str, pl.DataFrame]]:
    history = {"ev": events(0, 0, 400)}
    rows = history["ev"].filter(pl.col("id") % 5 == 0)
    spine = rows.select(pl.col("t").alias("event_time"), pl.col("id").alias("row_id"), *"kjvnsb")
    return program(), trained(program(), spine, history, None), history


def test_a_window_changed_on_one_side_is_named() -> None:
    """The acceptance story, in the run itself: 30 days here, 7 days there."""
    made, rows, history = world()
    steps = tuple(
        msgspec.structs.replace(step, window=50) if isinstance(step, Window) and step.name == "total" else step
        for step in made.steps
    )
    edited = msgspec.structs.replace(made, steps=steps)
    found = replay(edited, rows, history, Sampling(), None)
    assert differing(found) == ["total"]
    assert found["mismatches"] > 0
    assert found["examples"][0]["feature"] == "total"


def test_a_state_that_loses_events_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows, history = world()
    append = Writer._append

    def lossy(self: Writer, frame: pl.DataFrame, block: object, keys: list[bytes | None]) -> None:
        kept = [row for row in range(len(keys)) if row % 3]
        append(self, frame[kept], block.take(kept), [keys[row] for row in kept])  # type: ignore[attr-defined]

    monkeypatch.setattr(Writer, "_append", lossy)
    found = replay(made, rows, history, Sampling(), None)
    assert {"total", "everywhere"} <= set(differing(found))


def test_a_row_that_sees_too_much_does_not_keep_others_from_being_shown() -> None:
    """Keys take turns, and the events of one are all that is allowed: of that key's rows many are shown."""
    made, rows, history = world()
    keyed = [step for step in made.steps if getattr(step, "name", "") == "total"]
    made = msgspec.structs.replace(made, steps=tuple(keyed), order=("total",))
    late = rows.filter(pl.col("event_time") > rows["event_time"].max() - pl.duration(microseconds=250))
    found = replay(made, late, history, Sampling(rows=20, events=60), None)
    assert found["rows"] > 3
    assert differing(found) == []


def test_few_events_still_show_one_row() -> None:
    made, rows, history = world()
    found = replay(made, rows, history, Sampling(rows=20, events=1), None)
    assert found["rows"] == 1
    assert found["compared"] > 0
    assert differing(found) == []
