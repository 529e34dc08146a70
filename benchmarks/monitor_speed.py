"""What a comparison costs at 1M and 10M x 50, against a minimal PSI written by hand in Polars, and against Evidently and NannyML.

    python benchmarks/monitor_speed.py --prepare /tmp/wide                 # writes the rows once: a million, ten columns text
    python benchmarks/monitor_speed.py /tmp/wide [--peers PYTHON]          # measures; PYTHON has evidently and nannyml

Every measurement is a process of its own, so that its CPU seconds and its highest memory are its own. "Ours" is everything: all
distances, evidence, nulls, unseen values, correlations, from a stored reference. The hand-written PSI knows its edges, counts
and values beforehand, counts by comparisons, which is the least that can be done, and does nothing else; "by cut" is PSI as it
is mostly written. Ten million rows are the same file ten times over, streamed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

ROWS, NUMBERS = 1_000_000, 40
SIZES = (2, 3, 4, 5, 6, 8, 10, 12, 20, 5_000)


def draw(rows: int, seed: int) -> pl.DataFrame:
    """40 columns of numbers and 10 of text, one with 5,000 values; a hundredth is null."""
    rng = np.random.default_rng(seed)
    columns: dict[str, pl.Series] = {}
    for index in range(NUMBERS):
        values = rng.normal(size=rows) if index % 2 else rng.lognormal(size=rows)
        columns[f"x{index}"] = pl.Series(values).set(pl.Series(rng.random(rows) < 0.01), None)
    for size in SIZES:
        shares = np.arange(1, size + 1) ** -0.8
        codes = rng.choice(size, rows, p=shares / shares.sum())
        columns[f"c{size}"] = pl.Series([f"value {index}" for index in range(size)]).gather(codes)
    return pl.DataFrame(columns)


def prepare(folder: Path) -> None:
    """Write the rows, a smaller reference, and the reference's profile."""
    from engine.watch.reference import build_reference, encode_reference, split_evenly

    folder.mkdir(parents=True, exist_ok=True)
    draw(ROWS, 1).write_parquet(folder / "rows.parquet", row_group_size=100_000)
    known = draw(ROWS // 5, 2)
    known.write_parquet(folder / "reference.parquet")
    (folder / "reference.msgpack").write_bytes(encode_reference(build_reference(split_evenly(known, 10))))
    edges = {
        name: np.unique(known[name].drop_nulls().to_numpy()[np.argsort(known[name].drop_nulls().to_numpy())[
            np.linspace(0, known[name].len() - known[name].null_count() - 1, 11)[1:-1].astype(int)]]).tolist()
        for name in known.columns if name.startswith("x")
    }  # fmt: skip
    shares = {
        name: list(np.histogram(known[name].drop_nulls().to_numpy(), [-np.inf, *edges[name], np.inf])[0] / known.height)
        for name in edges
    }
    texts = {name: dict(known[name].value_counts().iter_rows()) for name in known.columns if name.startswith("c")}
    (folder / "plain.json").write_text(
        json.dumps({"edges": edges, "shares": shares, "texts": texts, "rows": known.height})
    )


def ours(folder: Path, times: int, *, memory: bool) -> None:
    """Profile and compare with the stored reference."""
    from engine.watch.compare import compare
    from engine.watch.profile import profile_rows
    from engine.watch.reference import decode_reference

    reference = decode_reference((folder / "reference.msgpack").read_bytes())
    path = folder / "rows.parquet"
    rows = pl.read_parquet(path) if memory else pl.scan_parquet([path] * times)
    began, cpu = time.perf_counter(), time.process_time()
    found = compare(reference, profile_rows(rows, reference.frozen))
    tell(began, cpu, len(found.columns))


def psi_of(before: Sequence[float], now: Sequence[float]) -> float:
    """The formula, with a floor for what is empty."""
    p, q = np.maximum(before, 1e-4), np.maximum(now, 1e-4)
    return float(((q - p) * np.log(q / p)).sum())


def plain(folder: Path, times: int, *, memory: bool) -> None:
    """PSI and no more: counts below each edge in one select, values counted, a formula."""
    known = json.loads((folder / "plain.json").read_text())
    path = folder / "rows.parquet"
    rows = pl.read_parquet(path).lazy() if memory else pl.scan_parquet([path] * times)
    began, cpu = time.perf_counter(), time.process_time()
    below = rows.select(
        pl.len().alias("rows"),
        *(
            (pl.col(name) <= edge).sum().alias(f"{name}|{place}")
            for name, edges in known["edges"].items()
            for place, edge in enumerate(edges)
        ),
        *(pl.col(name).count().alias(f"{name}|all") for name in known["edges"]),
    ).collect(engine="auto" if memory else "streaming")
    total, psi = below["rows"].item(), {}
    for name, edges in known["edges"].items():
        counts = np.array(
            [below[f"{name}|{place}"].item() for place in range(len(edges))] + [below[f"{name}|all"].item()]
        )
        psi[name] = psi_of(known["shares"][name], np.diff(counts, prepend=0) / total)
    for name, values in known["texts"].items():
        counted = dict(rows.group_by(name).len().collect(engine="auto" if memory else "streaming").iter_rows())
        keys = sorted({*values, *counted}, key=str)
        before = [values.get(key, 0) / known["rows"] for key in keys]
        psi[name] = psi_of(before, [counted.get(key, 0) / total for key in keys])
    tell(began, cpu, len(psi))


def ordinary(folder: Path, times: int, *, memory: bool) -> None:
    """PSI as it is mostly written in Polars: columns of numbers cut at their edges, pieces counted, a formula."""
    warnings.simplefilter("ignore")
    known = json.loads((folder / "plain.json").read_text())
    path = folder / "rows.parquet"
    rows = pl.read_parquet(path).lazy() if memory else pl.scan_parquet([path] * times)
    began, cpu = time.perf_counter(), time.process_time()
    psi = {}
    for name in (*known["edges"], *known["texts"]):
        if name in known["edges"]:
            edges = known["edges"][name]
            labels = [str(place) for place in range(len(edges) + 1)]
            before = dict(zip(labels, known["shares"][name], strict=True))
            piece = pl.col(name).cut(edges, labels=labels).alias("piece")
        else:
            before = {value: count / known["rows"] for value, count in known["texts"][name].items()}
            piece = pl.col(name).alias("piece")
        counted = rows.select(piece).group_by("piece").len().collect(engine="auto" if memory else "streaming")
        now = dict(counted.iter_rows())
        total = sum(now.values())
        pieces = sorted({*before, *now} - {None})
        shares = [before.get(item, 0) for item in pieces]
        psi[name] = psi_of(shares, [now.get(item, 0) / total for item in pieces])
    tell(began, cpu, len(psi))


PEERS = """
import sys, time, json, resource, warnings, logging
warnings.filterwarnings("ignore"); logging.disable(logging.CRITICAL)
import pandas as pd
what, folder = sys.argv[1:]
rows, known = pd.read_parquet(folder + "/rows.parquet"), pd.read_parquet(folder + "/reference.parquet")
numbers, texts = [n for n in rows if n[0] == "x"], [n for n in rows if n[0] == "c"]
if what == "evidently":
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    began, cpu = time.perf_counter(), time.process_time()
    sets = [Dataset.from_pandas(frame, data_definition=definition) for frame in (rows, known)]
    Report([DataDriftPreset()]).run(*sets).dict()
else:
    import nannyml
    began, cpu = time.perf_counter(), time.process_time()
    made = nannyml.UnivariateDriftCalculator(column_names=[*numbers, *texts], treat_as_categorical=texts, chunk_number=1,
        continuous_methods=["jensen_shannon", "kolmogorov_smirnov", "wasserstein", "hellinger"],
        categorical_methods=["jensen_shannon", "chi2", "l_infinity", "hellinger"])
    made.fit(known)
    made.calculate(rows).to_df()
print(json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu,
    "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "columns": rows.shape[1]}))
"""


def tell(began: float, cpu: float, columns: int) -> None:
    """Print what a process took."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - began,
                "cpu": time.process_time() - cpu,
                "memory": memory,
                "columns": columns,
            }
        )
    )


def measure(command: Sequence[str], rounds: int) -> dict[str, float]:
    """Run a process several times; gives the quickest."""
    found = []
    for _ in range(rounds):
        done = subprocess.run(list(command), capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr[-2000:])
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return min(found, key=lambda item: item["cpu"])


def main() -> None:
    """Prepare, or measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--peers", help="a Python that has evidently and nannyml")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=("ours", "plain", "ordinary"), help="measure one thing in this process")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="rows are in memory already")
    arguments = parser.parse_args()
    folder = arguments.folder
    if arguments.prepare:
        prepare(folder)
    elif arguments.one:
        {"ours": ours, "plain": plain, "ordinary": ordinary}[arguments.one](
            folder, arguments.times, memory=arguments.memory
        )
    else:
        table(folder, arguments.rounds, arguments.peers)


def table(folder: Path, rounds: int, peers: str | None) -> None:
    """Print a line a measurement."""
    self = [sys.executable, __file__, str(folder), "--one"]
    lines = {
        "ours, 1M x 50 in memory": ([*self, "ours", "--memory"], rounds),
        "plain PSI, 1M x 50 in memory": ([*self, "plain", "--memory"], rounds),
        "PSI by cut, 1M x 50 in memory": ([*self, "ordinary", "--memory"], rounds),
        "ours, 1M x 50 streamed": ([*self, "ours"], rounds),
        "plain PSI, 1M x 50 streamed": ([*self, "plain"], rounds),
        "PSI by cut, 1M x 50 streamed": ([*self, "ordinary"], rounds),
        "ours, 10M x 50 streamed": ([*self, "ours", "--times", "10"], 1),
    }
    if peers:
        for name in ("evidently", "nannyml"):
            lines[f"{name}, 1M x 50 in memory"] = ([peers, "-c", PEERS, name, str(folder)], 1)
    for name, (command, count) in lines.items():
        found = measure(command, count)
        print(
            f"  {name:<32} {found['cpu']:7.2f} s CPU  {found['seconds']:7.2f} s  {found['memory']:6.0f} MB", flush=True
        )


if __name__ == "__main__":
    main()
