"""Partitioned by key and spilled to disk, features have the bytes that they have in memory, for any size of the pieces."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contracts import IN_TURN, Parts, Place, Work, load_body
from engine.errors import DataError
from engine.features.compute import compute, spine_of
from engine.features.label import label_rows
from engine.features.program import FeatureProgram, compile_program
from engine.keys import Json, canonical_json
from engine.nodes.frames import write_frame
from engine.nodes.partitioned import Made, compute_spilled
from engine.nodes.spill import Buckets, ParquetTable, bucket_numbers
from engine.nodes.spilled_job import Files, JobFile, Sizes, open_job
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


@dataclass(frozen=True)
class Scene:
    """A program with a label, rows, the snapshot's time."""

    program: FeatureProgram
    history: dict[str, pl.DataFrame]
    as_of: int | None = None


class Shuffled:
    """Parts in any order, some of them twice, as workers that die have them done."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.beside = 2
        self.done = 0

    def run(self, work: Work, body: str, settings: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
        order = self._chance.sample(range(len(settings)), len(settings))
        found: dict[int, Mapping[str, Json]] = {}
        for number in [*order, *order[: self._chance.randrange(3)]]:
            found[number] = json.loads(canonical_json(load_body(body)(replace(work, settings=settings[number]))))
            self.done += 1
        return [found[number] for number in range(len(settings))]


def spilled(scene: Scene, sizes: Sizes, out: Path, parts: Parts = IN_TURN) -> Made:
    """What the node does when it does not fit into memory."""
    folder = out.with_name(f"{out.name}.scratch")
    files = {}
    for name in scene.program.source_names:
        frame = scene.history[name]
        cuts = [0, frame.height // 3, frame.height]
        paths = [folder / f"{name}-{number}.parquet" for number in range(2)]
        folder.mkdir(exist_ok=True)
        for path, start, end in zip(paths, cuts, cuts[1:], strict=False):
            frame[start:end].write_parquet(path)
        files[name] = Files(tuple(map(str, paths)), (cuts[1], frame.height - cuts[1]))
    job = JobFile(
        program=json.loads(json.dumps(scene.program.to_json())),
        files=files,
        sizes=sizes,
        as_of=scene.as_of,
        sample=None,
    )
    work = Work("features", {}, {}, folder, Place(folder, "", "", (), 1, "1"), lambda *_: None, parts=parts)
    try:
        made = compute_spilled(open_job(work, job, folder / "job"), out)
    finally:
        shutil.rmtree(folder)
    assert made.rows == pl.scan_parquet(out).select(pl.len()).collect().item()
    return made


@settings(max_examples=w.examples(6), deadline=None)
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
    sizes = Sizes(*(data.draw(st.integers(*limits)) for limits in ((15, 60), (6, 30), (11, 50))))
    as_of, parts = scene.world.as_of, Shuffled(random.Random(data.draw(st.integers(0, 99))))
    folder = Path(tempfile.mkdtemp())
    try:
        given = Scene(program, scene.history, as_of)
        try:
            counts = whole(program, scene.history, as_of, folder / "whole.parquet")
        except DataError:
            with pytest.raises(DataError):
                spilled(given, sizes, folder / "spilled.parquet", parts)
            return
        found = spilled(given, sizes, folder / "spilled.parquet", parts)
        assert found.counts == {reason: number for reason, number in counts.items() if number}
        assert parts.done > 10
        made, truth = (pl.read_parquet(folder / f"{name}.parquet") for name in ("spilled", "whole"))
        assert made.schema == truth.schema, (made.schema, truth.schema)
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
        spilled(Scene(program, history), Sizes(bucket, chunk, 64), tmp_path / "spilled.parquet")
        assert (tmp_path / "spilled.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_table_of_files_is_read_in_order_and_buckets_hold_all_rows_of_a_key(tmp_path: Path) -> None:
    frame = pl.DataFrame({"k": [f"k{number % 7}" for number in range(100)], "n": range(100)})
    for start in (0, 40):
        frame[start : start + (40 if not start else 60)].write_parquet(tmp_path / f"{start}.parquet")
    table = ParquetTable((str(tmp_path / "0.parquet"), str(tmp_path / "40.parquet")), (40, 60), 9)
    assert (table.height, table.slices) == (100, 5 + 7)
    assert pl.concat([table.read(number, ["k", "n"]) for number in range(table.slices)]).equals(frame)
    buckets = Buckets(tmp_path / "buckets", 4)
    for number in reversed(range(table.slices)):  # the order of writing does not matter, nor does writing twice
        for _ in range(1 + number % 2):
            rows = table.read(number)
            buckets.scatter(number, rows, bucket_numbers(rows, ["k"], 4))
    parts = [buckets.read(number) for number in range(4)]
    assert sum(part.height for part in parts) == 100
    assert sum(part["k"].n_unique() for part in parts) == 7
    assert all(part["n"].is_sorted() for part in parts)
    assert buckets.read(9).schema == frame.schema
