"""What is found at matched false-alarm rates: ours against every number of Evidently and NannyML, on the same draws.

    python benchmarks/monitor_power.py [--references 100] [--wobble 0.05] [--only mixes] [--peers PYTHON]

Each reference: 10 chunks of 2,000 rows of 20 normal columns and 4 categories. Then one chunk in which nothing changed, and four
more for the fewer categories, whose statistics over all references give each method the threshold that raises a false alarm in
0.5 % or 5 % of columns, and one chunk with a change in every column. "Ours" is the evidence of a column alone, as the other
methods' is; "among all columns" is what alarms are decided by, in which a change of many columns speaks for each. How far ours
is from the best other has the error of 200 samples of references, thresholds found anew in each. The other tools' numbers are
those of `mode: compat`; with `--peers` a sample of the very same draws is read by the tools themselves, and the largest
difference is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from engine.watch.compare import Comparison, Rules, compare
from engine.watch.compat import Samples, distances_of
from engine.watch.evidently_numbers import Pair
from engine.watch.profile import profile_rows
from engine.watch.reference import build_reference

NUMBERS, CHUNKS, ROWS = 20, 10, 2_000
MORE_QUIET, SAMPLES = 4, 200
OURS, DECIDED = "ours", "ours among all columns"
KINDS = ("numbers", "mixes", "pairs")
SIZES = (3, 5, 8, 12)
RATES = (0.005, 0.05)
RULES = Rules(effect=0.0)
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
CHANGES: dict[str, Change] = {
    "mean + 0.1 sd": lambda x, _: x + 0.1,
    "spread x 1.08": lambda x, _: x * 1.08,
    "tail: 1.5 % from N(0, 4)": lambda x, rng: np.where(rng.random(x.shape) < 0.015, x * 4, x),
    "shape: skewed, mean and spread alike": lambda x, _: (x + 0.06 * (x**2 - 1)) / np.sqrt(1 + 2 * 0.06**2),
}


def any_odds(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Multiply or divide the odds of one category, any of them, by 1.25."""
    factors = np.ones(shares.shape)
    factors[rng.integers(len(shares))] = rng.choice([1.25, 1 / 1.25])
    return shares * factors


MIXES: dict[str, Change] = {
    "mix: one category, any, odds x or / 1.25": any_odds,
    "mix: first category + 4 %": lambda shares, _: np.append(0.96 * shares[0] + 0.04, 0.96 * shares[1:]),
    "mix: every share x exp(N(0, 0.09))": lambda shares, rng: shares * np.exp(rng.normal(0.0, 0.09, shares.shape)),
}
P_VALUES = {"evidently_ks", "evidently_chisquare", "evidently_z"}


def draw(
    rng: np.random.Generator,
    wobble: float,
    change: Change | None = None,
    mix: Change | None = None,
    correlation: float = 0.0,
) -> pl.DataFrame:
    """One chunk; `mix` changes the shares of categories, `correlation` ties neighbouring columns together."""
    x = rng.normal(size=(ROWS, NUMBERS))
    if correlation:
        x[:, 1::2] = correlation * x[:, ::2] + np.sqrt(1 - correlation**2) * x[:, 1::2]
    x = (change(x, rng) if change else x) + rng.normal(0.0, wobble, NUMBERS)
    columns = {f"x{index}": x[:, index] for index in range(NUMBERS)}
    for size in SIZES:
        shares = np.arange(1, size + 1) ** -0.7 * np.exp(rng.normal(0.0, wobble, size))
        shares /= shares.sum()
        shares = mix(shares, rng) if mix else shares
        columns[f"c{size}"] = rng.choice(size, ROWS, p=shares / shares.sum()).astype(str)
    return pl.DataFrame(columns)


def read(chunks: list[pl.DataFrame], chunk: pl.DataFrame, names: list[str]) -> dict[str, list[float]]:
    """Give every method's statistic of every column, larger where there is more to say."""
    found = defaultdict(list)
    for name in names:
        numeric = name.startswith("x")
        parts = tuple(np.array(item[name].to_list()) if not numeric else item[name].to_numpy() for item in chunks)
        now = chunk[name].to_numpy() if numeric else np.array(chunk[name].to_list())
        samples = Samples(name, parts, now, numeric)
        for method, value in distances_of(Pair(np.concatenate(parts), now, numeric), samples).items():
            if method != "evidently_z":
                found[method].append(-value if method in P_VALUES else value)
    return found


def classifier(chunks: list[pl.DataFrame], chunk: pl.DataFrame) -> float:
    """A domain classifier's area, as NannyML has one."""
    from plugins.monitors_standard import MultivariateParams
    from plugins.monitors_standard.telling import Multivariate

    numbers = [f"x{index}" for index in range(NUMBERS)]
    measured, _ = Multivariate(MultivariateParams()).tell_apart(
        chunk.select(numbers).to_numpy(), [item.select(numbers).to_numpy() for item in chunks]
    )
    return float(measured.value or 0.5)


def reconstruction(chunks: list[pl.DataFrame], chunk: pl.DataFrame) -> float:
    """How far the mean reconstruction error of principal components (65 % of the variance) is from the reference's."""
    numbers = [f"x{index}" for index in range(NUMBERS)]
    past = np.concatenate([item.select(numbers).to_numpy() for item in chunks])
    mean, scale = past.mean(axis=0), past.std(axis=0)
    values, vectors = np.linalg.eigh(np.cov((past - mean) / scale, rowvar=False))
    kept = vectors[:, ::-1][:, : int(np.searchsorted(np.cumsum(values[::-1]) / values.sum(), 0.65)) + 1]

    def error(rows: np.ndarray) -> float:
        scaled = (rows - mean) / scale
        return float(np.linalg.norm(scaled - scaled @ kept @ kept.T, axis=1).mean())

    return abs(error(chunk.select(numbers).to_numpy()) - error(past))


class World:
    """Reference chunks of columns of one kind, and what ours makes of them."""

    def __init__(self, chunks: list[pl.DataFrame], names: list[str]) -> None:
        self.names, self.chunks = names, [chunk.select(names) for chunk in chunks]
        self.reference = build_reference(self.chunks)

    def note(self, into: dict[str, list[float]], chunk: pl.DataFrame) -> None:
        """Note every method's statistics of a chunk's columns."""
        kind = self.names[0][0]
        for method, values in read(self.chunks, chunk, self.names).items():
            into[f"{kind}:{method}"] += values
        found = self._compare(chunk).columns
        into[f"{kind}:{OURS}"] += [-float(item.tail or 1.0) for item in found]
        into[f"{kind}:{DECIDED}"] += [-float(item.adjusted or 1.0) for item in found]

    def note_pairs(self, into: dict[str, list[float]], chunk: pl.DataFrame) -> None:
        """Note what says of a whole chunk how its columns hang together."""
        found = self._compare(chunk).dependence
        into[f"pairs:{OURS}"].append(-float(found.tail or 1.0) if found else -1.0)
        into["pairs:domain classifier"].append(classifier(self.chunks, chunk))
        into["pairs:reconstruction error"].append(reconstruction(self.chunks, chunk))

    def _compare(self, chunk: pl.DataFrame) -> Comparison:
        return compare(self.reference, profile_rows(chunk.select(self.names), self.reference.frozen), RULES)


Found = dict[str, dict[str, list[float]]]
NOTHING = "nothing changed"


def simulate(references: int, wobble: float, processes: int, kinds: tuple[str, ...]) -> Found:
    """Give the statistics of unchanged chunks and of changed ones: by scenario, by method."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with ProcessPoolExecutor(processes) as pool:
        for count, one in enumerate(pool.map(partial(compare_one, wobble=wobble, kinds=kinds), range(references)), 1):
            for scenario, methods in one.items():
                for method, values in methods.items():
                    found[scenario][method] += values
            if count % 10 == 0:
                print(f"  {count} references", file=sys.stderr, flush=True)
    return found


def compare_one(seed: int, wobble: float, kinds: tuple[str, ...]) -> Found:
    """Draw one reference, and of each scenario a chunk; give every method's statistics. What is drawn hangs on no `kinds`."""
    rng = np.random.default_rng([seed, int(wobble * 100)])
    numbers, texts = [f"x{index}" for index in range(NUMBERS)], [f"c{size}" for size in SIZES]
    chunks = [draw(rng, wobble) for _ in range(CHUNKS)]
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    quiet = draw(rng, wobble)
    moved = {name: draw(rng, wobble, change) for name, change in CHANGES.items()}
    mixed = {name: draw(rng, wobble, mix=mix) for name, mix in MIXES.items()}
    tied = {"correlation 0 to 0.12": draw(rng, wobble, correlation=0.12)}
    if "numbers" in kinds:
        world = World(chunks, numbers)
        for name, chunk in {NOTHING: quiet, **moved}.items():
            world.note(found[name], chunk)
    if "mixes" in kinds:
        world = World(chunks, texts)
        for chunk in [quiet, *(draw(rng, wobble) for _ in range(MORE_QUIET))]:
            world.note(found[NOTHING], chunk)
        for name, chunk in mixed.items():
            world.note(found[name], chunk)
    if "pairs" in kinds:
        world = World(chunks, numbers)
        for name, chunk in {NOTHING: quiet, **tied}.items():
            world.note_pairs(found[name], chunk)
    return {scenario: dict(methods) for scenario, methods in found.items()}


def table(every: Found, references: int) -> None:
    """Print the shares found, how far ours is from the best other's, and the best three of the others."""
    null = every.pop(NOTHING)
    together = {"numbers, any of these": CHANGES, "categories, any of these": MIXES}
    every |= {
        name: merged([every[part] for part in parts])
        for name, parts in together.items()
        if parts.keys() <= every.keys()
    }
    draws = np.random.default_rng(0).integers(0, references, (SAMPLES, references))
    for name, found in every.items():
        sides = {
            method.partition(":")[2]: (by_reference(null[method], references), by_reference(values, references))
            for method, values in found.items()
        }
        for rate in RATES:
            power = {method: power_of(*side, rate) for method, side in sides.items()}
            ours, decided = power.pop(OURS), power.pop(DECIDED, None)
            others = sorted(((value, method) for method, value in power.items()), reverse=True)[:3]
            best = sides[others[0][1]]
            apart = [
                power_of(*(part[drawn] for part in sides[OURS]), rate) - power_of(*(part[drawn] for part in best), rate)
                for drawn in draws
            ]
            told = ", ".join(f"{method} {value:.1%}" for value, method in others)
            gap = f"{100 * (ours - others[0][0]):+5.1f} ± {100 * np.std(apart):.1f}"
            all_columns = "" if decided is None else f" (among all columns {decided:.1%})"
            print(f"  {name:<40} at {rate:5.1%}: ours {ours:6.1%}{all_columns}, {gap}   {told}", flush=True)


def merged(scenarios: Sequence[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """Put the columns of several scenarios together, by reference."""
    return {
        method: np.stack([found[method] for found in scenarios], axis=-1).ravel().tolist() for method in scenarios[0]
    }


def by_reference(values: list[float], references: int) -> np.ndarray:
    """Give columns in rows of one reference each."""
    return np.reshape(values, (references, -1))


def power_of(null: np.ndarray, changed: np.ndarray, rate: float) -> float:
    """Give the share of changed columns beyond the threshold that `rate` of the unchanged are beyond."""
    return float((changed > np.quantile(null, 1 - rate)).mean())


PEERS = """
import json, sys, warnings, logging
warnings.filterwarnings("ignore"); logging.disable(logging.CRITICAL)
import pandas as pd, nannyml
from evidently.legacy.calculations import stattests
from evidently.legacy.core import ColumnType
folder, size = sys.argv[1], int(sys.argv[2])
known, now = pd.read_parquet(folder + "/known.parquet"), pd.read_parquet(folder + "/now.parquet")
tests = {"psi": stattests.psi_stat_test, "jensenshannon": stattests.jensenshannon_stat_test}
tests |= {"wasserstein": stattests.wasserstein_stat_test, "ks": stattests.ks_stat_test}
found = {}
numbers, texts = [n for n in known if n[0] == "x"], [n for n in known if n[0] == "c"]
made = nannyml.UnivariateDriftCalculator(column_names=numbers + texts, treat_as_categorical=texts, chunk_size=size); made.fit(known)
theirs = made.calculate(now).filter(period="analysis").to_df()
for name in known:
    kind = ColumnType.Numerical if name in numbers else ColumnType.Categorical
    for method, test in tests.items():
        if method in ("psi", "jensenshannon") or name in numbers:
            found[name + "|evidently_" + method] = float(test(known[name], now[name], kind, 0.1).drift_score)
    found[name + "|nannyml_jensen_shannon"] = float(theirs[(name, "jensen_shannon", "value")].iloc[0])
print(json.dumps(found))
"""


def check(python: str, wobble: float) -> None:
    """Let the tools themselves read a draw; print how far their numbers are from those of `mode: compat`."""
    rng = np.random.default_rng([0, int(wobble * 100)])
    chunks, now = (
        [draw(rng, wobble) for _ in range(CHUNKS)],
        draw(rng, wobble, CHANGES["mean + 0.1 sd"], next(iter(MIXES.values()))),
    )
    with tempfile.TemporaryDirectory() as folder:
        pl.concat(chunks).write_parquet(Path(folder) / "known.parquet")
        now.write_parquet(Path(folder) / "now.parquet")
        done = subprocess.run([python, "-c", PEERS, folder, str(ROWS)], capture_output=True, text=True, check=True)
    theirs, apart = json.loads(done.stdout.splitlines()[-1]), 0.0
    for name in now.columns:
        ours = {method: abs(values[0]) for method, values in read(chunks, now, [name]).items()}
        for method, value in ours.items():
            apart = max(apart, abs(value - theirs.get(f"{name}|{method}", value)))
    print(f"  the tools' own numbers of one draw, {len(theirs)} of them: at most {apart:.1e} apart", flush=True)


def main() -> None:
    """Draw, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=100)
    parser.add_argument("--wobble", type=float, default=0.0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--peers", help="a Python that has evidently and nannyml")
    arguments = parser.parse_args()
    print(
        f"found at matched false-alarm rates, n = {ROWS}, K = {CHUNKS}, wobble {arguments.wobble}, {arguments.references} references"
    )
    began = time.perf_counter()
    kinds = (arguments.only,) if arguments.only else KINDS
    table(simulate(arguments.references, arguments.wobble, arguments.processes, kinds), arguments.references)
    if arguments.peers:
        check(arguments.peers, arguments.wobble)
    print(f"  {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
