"""Shares of rows on Dask workers: nearly the model of one machine, the same bits every time, the workers of the run's scheduler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from distributed import LocalCluster

from engine.components import load_catalogue
from engine.contracts import FitRequest, PartedTrainer, Target
from engine.errors import DataError, UnavailableError
from engine.evaluation.metrics import measure
from engine.features.encoders import fit_encoders
from engine.features.program import compile_program
from engine.nodes.parted import RowsOnDisk
from engine.spec import EncodedFeature, ExpressionFeature, LabelSpec, SourceSpec, SpineSpec

ROOT = Path(__file__).resolve().parents[2]
COMPONENT = load_catalogue(ROOT, ("lightgbm_trainer",)).get("trainer", "lightgbm_distributed")
LOCAL = load_catalogue(ROOT, ("lightgbm_trainer",)).get("trainer", "lightgbm")
COLUMNS = ("far", "who_ix")


class NoParams(msgspec.Struct, frozen=True):
    """None."""


def program():
    columns = {"id": "str", "who": "str", "km": "f64", "at": "timestamp", "late": "i64"}
    source = SourceSpec(
        kind="x", params=NoParams(), columns=columns, key=("who",), time="at", id="id", decimals={"km": 2}
    )
    features = {
        "far": ExpressionFeature(expr="km * 2"),
        "who_ix": msgspec.convert({"encode": "who", "with": "vocab"}, EncodedFeature),
    }
    spine = SpineSpec(source="x", request={"who": "str", "km": "f64"})
    label = msgspec.convert({"from": "x", "expr": "late"}, LabelSpec)
    return compile_program(features, spine, label, {"x": source}).program


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    draw, n = np.random.default_rng(0), 4000
    folder, made = tmp_path_factory.mktemp("rows"), program()
    km, who = draw.exponential(10, n), draw.integers(0, 6, n)
    late = (draw.random(n) < 1 / (1 + np.exp(-(km - 12) / 4 - (who == 3) * 2))).astype(int)
    frame = pl.DataFrame(
        {"row_id": [f"r{i}" for i in range(n)], "who": [f"w{i}" for i in who], "km": km, "far": km * 2, "label": late}
    )
    frame.write_parquet(folder / "rows.parquet", row_group_size=500)
    part = np.where(np.arange(n) % 5 == 0, "validation", np.where(np.arange(n) % 5 == 1, "test", "train"))
    pl.DataFrame({"part": part}).write_parquet(folder / "split.parquet")
    encoders = fit_encoders(made, frame.filter(pl.Series(part) == "train")).to_json()
    paths = (str(folder / "rows.parquet"), str(folder / "split.parquet"))
    return RowsOnDisk(*paths, made.to_json(), encoders, COLUMNS, Target("binary"), {})


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as made:
        yield made.scheduler_address


def request(cluster, task="binary"):
    return FitRequest(task, 1, 1, lambda *_: None, cluster=cluster)


def build(component=COMPONENT, **more):
    return component.build(msgspec.convert({"rounds": 40, "early_stopping": 10, **more}, component.params))


def test_shares_hold_every_row_once(rows):
    whole = rows.read("train")
    shares = [rows.read("train", index, 3) for index in range(3)]
    assert np.array_equal(np.concatenate([share.x for share in shares]), whole.x)
    assert np.array_equal(np.concatenate([share.y for share in shares]), whole.y)
    assert np.array_equal(rows.labels("train"), whole.y)
    assert rows.count("train") == len(whole.y) == 2400
    assert np.array_equal(replace(rows, columns=("far",)).read("train").x[:, 0], whole.x[:, 0]), "one column alone"


def test_two_workers_train_nearly_what_one_machine_does_and_the_same_every_time(rows, cluster):
    trainer = build()
    assert isinstance(trainer, PartedTrainer)
    files = trainer.train_parts(rows, COLUMNS, request(cluster))
    assert trainer.train_parts(rows, COLUMNS, request(cluster)) == files
    assert b"machines" not in files["model.txt"]
    alone = build(LOCAL)
    one = alone.train(rows.read("train"), rows.read("validation"), request(None))
    held = rows.read("validation")
    ours, theirs = (measure("roc_auc", held.y, made.predict(held.x)) for made in (trainer.load(files), alone.load(one)))
    assert ours > 0.75
    assert abs(ours - theirs) < 0.02
    assert set(trainer.importance(files)) == set(COLUMNS)


def test_too_few_workers_and_too_few_rows_are_told(rows, cluster):
    with pytest.raises(UnavailableError, match=r"2 Dask workers have a free slot, train\.workers asks for 3"):
        build(workers=3).train_parts(rows, COLUMNS, request(cluster))
    with pytest.raises(DataError, match="too few for so many shares"):
        build(params={"min_data_in_leaf": 2000}).train_parts(rows, COLUMNS, request(cluster))
