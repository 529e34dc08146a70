"""A point-in-time lookup of a training set: `compute` against Feast's `get_historical_features`, the same rows.

    python benchmarks/feast_lookup.py --peer /path/to/venv/bin/python [--rows 200_000] [--repeat 3] [--json]

`--peer` is the interpreter of an environment that has `feast` (0.67 was measured): it needs other versions of our libraries, so
it lives apart. Each side runs in a process of its own, reads the history (a fifth of the rows, 10,000 skewed keys) from one
Parquet file, and joins it to all rows of a spine that it holds in memory. Feast lets a row see an equal time, which ours
does not, so the rows have no equal times; and it leaves rows out that have nothing to join. The values are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FEAST = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from datetime import timedelta
from pathlib import Path
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, Int64

folder = Path(sys.argv[1])
repo = RepoConfig(project="bench", provider="local", registry=str(folder / "registry.db"), offline_store={"type": "dask"},
                  online_store={"type": "sqlite", "path": str(folder / "online.db")}, entity_key_serialization_version=3)
store = FeatureStore(config=repo)
user = Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)
fields = [Field(name="amt", dtype=Float64), Field(name="row", dtype=Int64)]
rates = FeatureView(name="rates", entities=[user], ttl=timedelta(0), schema=fields,
                    source=FileSource(path=str(folder / "history.parquet"), timestamp_field="ts"))
store.apply([user, rates])
spine = pd.read_parquet(folder / "spine.parquet").rename(columns={"ts": "event_timestamp"})
taken = []
for _ in range(int(sys.argv[2])):
    started = time.perf_counter()
    made = store.get_historical_features(entity_df=spine, features=["rates:amt", "rates:row"]).to_df()
    taken.append(time.perf_counter() - started)
made.sort_values("row_id")[["row_id", "amt", "row"]].to_parquet(folder / "feast.parquet")
print(json.dumps({"seconds": taken, "rows": len(made)}))
"""


def make_rows(folder: Path, rows: int) -> None:
    """Write both sides' files; no two times are equal, so that both mean the same."""
    import numpy as np
    import polars as pl

    chance = np.random.default_rng(0)
    weights = 1.0 / np.arange(1, 10_001)
    every = (
        np.sort(chance.choice(180 * 86_400 * 10**6, size=rows + rows // 5, replace=False, shuffle=False))
        + 1_600_000_000_000_000
    )
    late = chance.permutation(len(every)) < rows // 5
    for name, times in (("spine", every[~late]), ("history", every[late])):
        frame = pl.DataFrame(
            {
                "row_id": np.arange(len(times)),
                "user": chance.choice(10_000, size=len(times), p=weights / weights.sum()),
                "ts": pl.Series(times).cast(pl.Datetime("us", "UTC")),
                "amt": np.round(chance.gamma(2.0, 25.0, len(times)), 2),
            }
        )
        made = frame.select("row_id", "user", "ts") if name == "spine" else frame.rename({"row_id": "row"})
        made.write_parquet(folder / f"{name}.parquet")


def ours(folder: Path, times: int) -> dict[str, object]:
    """Join in this process: as a file is read, and a frame is made."""
    import polars as pl
    from windows import NoParams

    from engine.features.compute import compute
    from engine.features.program import compile_program
    from engine.spec import LookupFeature, SourceSpec, SpineSpec

    columns = {"row": "i64", "user": "i64", "ts": "timestamp", "amt": "f64"}
    rates = SourceSpec(kind="parquet", params=NoParams(), columns=columns, key=("user",), time="ts", id="row")
    features = {"amt": LookupFeature(lookup="rates.amt"), "row": LookupFeature(lookup="rates.row")}
    spine = SpineSpec(source="rates", request={"user": "i64"})
    program = compile_program(features, spine, None, {"rates": rates}).program
    rows = pl.read_parquet(folder / "spine.parquet").rename({"ts": "event_time"})
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        made = compute(program, rows, {"rates": pl.read_parquet(folder / "history.parquet")})
        taken.append(time.perf_counter() - started)
    theirs = pl.read_parquet(folder / "feast.parquet").with_columns(
        pl.col("amt", "row").cast(pl.Float64).fill_nan(None), pl.col("row_id").cast(pl.Int64)
    )
    made = made.cast({"row": pl.Float64})
    both = rows.select("row_id").hstack(made.select("amt", "row")).join(theirs, on="row_id", how="left")
    odd = both.filter(~(pl.col("row").eq_missing(pl.col("row_right")) & pl.col("amt").eq_missing(pl.col("amt_right"))))
    if odd.height:
        raise SystemExit(f"the two differ in {odd.height} of {both.height} rows: {odd.head(3).rows()}")
    return {"seconds": taken, "rows": made.height}


def main() -> None:
    """Measure both, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="the interpreter of an environment with feast")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.ours:
        print(json.dumps(ours(asked.ours, asked.repeat)))
        return
    with tempfile.TemporaryDirectory() as name:
        make_rows(Path(name), asked.rows)
        found = {}
        for who, command in (
            ("feast", [asked.peer, "-c", FEAST, name, str(asked.repeat)]),
            ("engine", [sys.executable, __file__, "--peer", asked.peer, "--ours", name, "--repeat", str(asked.repeat)]),
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr[-3000:])
            found[who] = json.loads(done.stdout.strip().splitlines()[-1])
    medians = {who: statistics.median(of["seconds"]) for who, of in found.items()}
    table = {"rows": asked.rows, **{f"{who}_s": round(value, 4) for who, value in medians.items()},
             "rows_out": {who: of["rows"] for who, of in found.items()},
             "times_faster": round(medians["feast"] / medians["engine"], 1)}  # fmt: skip
    print(json.dumps(table, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
