"""Partitioned by key and spilled to disk, features have the bytes that they have in memory, for any size of the pieces."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DataError
from engine.features.compute import compute, spine_of
from engine.features.label import label_rows
from engine.features.program import FeatureProgram, compile_program
from engine.nodes.frames import write_frame
from engine.nodes.partitioned import compute_spilled
from engine.nodes.spill import Buckets, FrameTable, ParquetTable, bucket_numbers
from engine.nodes.spilled_spine import Job, Sizes
from engine.spec import Available, LabelSpec, SpineSpec
from tests.features import worlds as w

LABELS = [{"id": "id"}, {"k": "k"}, {"k": "k", "j": "j"}]


def whole(program: FeatureProgram, history: dict[str, pl.DataFrame], as_of: int | None, out: Path) -> dict[str, int]:
    """What the node does in memory."""
    spine = spine_of(program, history, as_of)
    labels = label_rows(program, spine, history, as_of)
    usable = labels.rows.filter(pl.col("usable"))
    if not usable.height:
        raise DataError("none")
    spine = spine.filter(labels.rows["usable"])
    features = compute(program, spine, history, as_of=as_of)
    write_frame(out, pl.concat([spine, features, usable.select("label", "label_known_at")], how="horizontal"))
    return dict(labels.counts)


def spilled(job: Job, out: Path) -> dict[str, int]:
    made = compute_spilled(job, out, lambda rows: rows, lambda *_: None)
    assert made.rows == pl.scan_parquet(out).select(pl.len()).collect().item()
    return {reason: count for reason, count in made.counts.items() if count}


@settings(max_examples=w.examples(12), deadline=None)
@given(w.scenes(), st.sampled_from(LABELS), st.data())
def test_any_partition_gives_the_same_bytes(scene: w.Scene, on: dict[str, str], data: Any) -> None:
    available = data.draw(st.sampled_from([Available(), Available(delay="2us"), Available(column="a")]))
    label = LabelSpec(source="ev", expr="id % 5", on=on, maturity="2us")
    program = compile_program(
        w.typed(scene.features),
        SpineSpec(source="ev", request=w.REQUEST),
        label,
        w.sources_of(w.Setting(available=available)),
    ).program
    sizes = Sizes(data.draw(st.integers(15, 60)), data.draw(st.integers(6, 30)))
    batch, as_of = data.draw(st.integers(11, 50)), scene.world.as_of
    folder = Path(tempfile.mkdtemp())
    try:
        tables = {name: FrameTable(frame, batch) for name, frame in scene.history.items()}
        job = Job(program, tables, folder / "scratch", sizes, as_of)
        try:
            counts = whole(program, scene.history, as_of, folder / "whole.parquet")
        except DataError:
            with pytest.raises(DataError):
                spilled(job, folder / "spilled.parquet")
            return
        assert spilled(job, folder / "spilled.parquet") == {reason: n for reason, n in counts.items() if n}
        made, truth = (pl.read_parquet(folder / f"{name}.parquet") for name in ("spilled", "whole"))
        assert made.schema == truth.schema
        for name in truth.columns:
            assert w.bits(made.select(name)) == w.bits(truth.select(name)), name
        assert (folder / "spilled.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()
    finally:
        shutil.rmtree(folder)


def test_keys_that_are_features_of_another_source(tmp_path: Path) -> None:
    """Two levels of joins: the second one's key comes from the first."""
    features = {
        "code": {"lookup": "dim.c"},
        "seen_{agg}": {
            "from": "ev",
            "of": "v",
            "agg": ["count", "max"],
            "window": "1d",
            "by": ["j"],
            "on": {"j": "code"},
        },
        "per_key": {"from": "ev", "agg": "count", "window": "1d"},
        "share": {"expr": "seen_count / NULLIF(per_key, 0)", "default": -1.0},
    }
    label = LabelSpec(source="ev", expr="id", maturity="0s")
    program = compile_program(
        w.typed(features), SpineSpec(source="ev", request={"k": "str"}), label, w.sources_of(w.Setting())
    ).program

    chance = random.Random(4)
    rows = [{**w.crowded(chance, 0), "id": place} for place in range(500)]
    history = {
        "ev": w.to_frame(rows, w.EVENT),
        "dim": w.to_frame([{"k": "x", "d": 1.0, "c": 1}, {"k": "y", "d": 1.0, "c": 0}], w.DIMENSION),
    }
    whole(program, history, None, tmp_path / "whole.parquet")
    for bucket, chunk in ((1000, 1000), (80, 90), (70, 33)):
        scratch = tmp_path / f"{bucket}"
        tables = {name: FrameTable(frame, 64) for name, frame in history.items()}
        spilled(Job(program, tables, scratch, Sizes(bucket, chunk), None), tmp_path / "spilled.parquet")
        assert (tmp_path / "spilled.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_table_of_files_is_read_in_order_and_buckets_hold_all_rows_of_a_key(tmp_path: Path) -> None:
    frame = pl.DataFrame({"k": [f"k{number % 7}" for number in range(100)], "n": range(100)})
    for start in (0, 40):
        frame[start : start + (40 if not start else 60)].write_parquet(tmp_path / f"{start}.parquet")
    table = ParquetTable((tmp_path / "0.parquet", tmp_path / "40.parquet"))
    assert table.height == 100
    assert pl.concat(list(table.batches(["k", "n"]))).equals(frame)
    buckets = Buckets(tmp_path / "buckets", 4, frame.schema)
    for batch in FrameTable(frame, 9).batches(["k", "n"]):
        buckets.add(batch, bucket_numbers(batch, ["k"], 4))
    parts = [buckets.read(number) for number in range(4)]
    assert sum(part.height for part in parts) == 100
    assert sum(part["k"].n_unique() for part in parts) == 7
    assert all(part["n"].is_sorted() for part in parts)
