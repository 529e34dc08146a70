"""Logged requests against the recorded commit: equal when nothing is wrong, named when something is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import polars as pl
import pytest

from engine.features.compute import compute
from engine.features.encoders import fit_encoders
from engine.nodes.matrix import to_matrix
from engine.online.materialise import Published
from engine.parity import Logged, Replayer, measure_parity
from engine.stores.snapshots import open_snapshots
from tests.online.killed_writer import events, program

COLUMNS = ("total", "everywhere", "by_j", "latest")


@pytest.fixture
def world(tmp_path: Path) -> Any:
    """A store with two commits, and a log of what was served from the first."""
    store = open_snapshots(str(tmp_path / "store"))
    store.ensure_repository("data")
    commits = []
    for number, count in enumerate((100, 60)):
        file = tmp_path / f"{number}.parquet"
        events(0, 0, count).write_parquet(file)
        store.put("data", "main", "ev/all.parquet", file)
        commits.append(store.commit("data", "main", "more", {}).id)
    made = program()
    spine = events(0, 0, 100).filter(pl.col("id") % 5 == 0).select(pl.col("t").alias("event_time"), *"kjvnsb")
    features = compute(made, spine, {"ev": events(0, 0, 100)})
    fitted = fit_encoders(made, spine.hstack(features))
    served: Any = SimpleNamespace(
        program=made, model=SimpleNamespace(fitted=fitted), columns=COLUMNS, sources={}, label="m:1"
    )
    x = to_matrix(made, fitted, spine.hstack(features), COLUMNS).x
    state = msgspec.json.encode({"ev": {"commit": commits[0], "events": 80, "time": 90, "available": 90}}).decode()
    rows = pl.DataFrame({"prediction_id": [f"p{n}" for n in range(spine.height)]}).with_columns(
        spine["event_time"].alias("served_at"), spine["event_time"], pl.lit(state).alias("state"),
        spine.select(*"kjvnsb").to_struct("request"), pl.DataFrame(x, schema=list(COLUMNS)).to_struct("features"),
    )  # fmt: skip
    return SimpleNamespace(store=store, rows=rows, served=served, commits=commits)


def measure(world: Any, rows: pl.DataFrame, share: float = 1.0) -> Any:
    replayer = Replayer(world.served, world.store, {"ev": Published("data", "main")})
    return measure_parity(Logged(world.served, rows, share), replayer)


def test_the_recorded_commit_gives_what_was_served(world: Any) -> None:
    report = measure(world, world.rows)
    assert report.ok
    assert report.compared == world.rows.height * len(COLUMNS)
    assert (report.mismatches, report.missing, report.extra, report.skipped) == (0, 0, 0, 0)
    assert report.features[0].lag_max == pytest.approx(5e-6)


def change(rows: pl.DataFrame, name: str, value: float) -> pl.DataFrame:
    features = rows["features"].struct.unnest()
    changed = features.with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(value).otherwise(pl.col(name)).alias(name)
    )
    return rows.with_columns(changed.to_struct("features"))


@pytest.mark.parametrize(("value", "kind"), [(123.5, "mismatches"), (float("nan"), "missing")])
def test_one_other_value_is_found_and_named(world: Any, value: float, kind: str) -> None:
    report = measure(world, change(world.rows, "total", value))
    assert not report.ok
    wrong = {item.feature: (item.mismatches, item.missing, item.extra) for item in report.features}
    assert wrong.pop("total") == ((1, 0, 0) if kind == "mismatches" else (0, 0, 1))
    assert set(wrong.values()) == {(0, 0, 0)}
    assert (report.differences[0].prediction_id, report.differences[0].feature) == ("p7", "total")


def test_another_commit_gives_other_values(world: Any) -> None:
    other = world.rows["state"][0].replace(world.commits[0], world.commits[1])
    report = measure(world, world.rows.with_columns(pl.lit(other).alias("state")))
    assert report.mismatches > 0


def test_what_cannot_be_computed_again_is_not_called_equal(world: Any) -> None:
    gone = world.rows["state"][0].replace(world.commits[0], "0" * 40)
    report = measure(world, world.rows.with_columns(pl.lit(gone).alias("state")))
    assert not report.ok
    assert (report.compared, report.skipped) == (0, world.rows.height)
    assert sum(report.reasons.values()) == world.rows.height


def test_a_share_of_keys_is_all_rows_of_some(world: Any) -> None:
    report = measure(world, world.rows, share=0.5)
    assert 0 < report.sampled < report.predictions
    assert report.ok
