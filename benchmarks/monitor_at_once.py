"""What must be seen in the first chunk, with the right cause first: nulls from 5 % to 15 %, a category never seen at 1 %, and a jump.

    python benchmarks/monitor_at_once.py [--references 500] [--rows 2000] [--wobble 0.05]

Each reference: 10 chunks of 12 normal columns, of which one has 5 % nulls, and 4 categories. A change is found when the comparison is
in alarm with the standard rules (evidence over all columns at 5 %, a size of at least 0.1); its cause is right when the most
telling alarm is that column's, and names that kind of change.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from engine.watch.compare import compare
from engine.watch.profile import profile_rows
from engine.watch.reference import build_reference

NUMBERS, CHUNKS, SIZES = 12, 10, (3, 5, 8, 12)
Shares = Mapping[str, float]
CHANGES: Mapping[str, tuple[Shares, str, frozenset[str]]] = {
    "nulls 5 % to 15 %": ({"nulls": 0.15}, "x0", frozenset({"nulls"})),
    "an unseen category at 1 %": ({"unseen": 0.01}, "c5", frozenset({"unseen", "new_value"})),
    "mean + 0.2 sd": ({"jump": 0.2}, "x1", frozenset({"location"})),
    "nothing changed": ({}, "", frozenset()),
}


def draw(rng: np.random.Generator, rows: int, wobble: float, changed: Shares) -> pl.DataFrame:
    """One chunk; `changed` says the share of nulls and of the unseen category, and how far a mean jumps."""
    columns: dict[str, pl.Series] = {}
    for index in range(NUMBERS):
        values = rng.normal(rng.normal(0.0, wobble), 1.0, rows) + (changed.get("jump", 0.0) if index == 1 else 0.0)
        columns[f"x{index}"] = pl.Series(values)
    columns["x0"] = columns["x0"].set(pl.Series(rng.random(rows) < changed.get("nulls", 0.05)), None)
    for size in SIZES:
        shares = np.arange(1, size + 1) ** -0.7 * np.exp(rng.normal(0.0, wobble, size))
        values = rng.choice(size, rows, p=shares / shares.sum()).astype(str)
        columns[f"c{size}"] = pl.Series(values)
    columns["c5"] = columns["c5"].set(pl.Series(rng.random(rows) < changed.get("unseen", 0.0)), "new")
    return pl.DataFrame(columns)


def judge(seed: int, rows: int, wobble: float, tell: Callable[[str, bool, bool], None]) -> None:
    """Draw a reference, and a chunk of each kind; tell what was found, and whether the cause was right."""
    rng = np.random.default_rng([seed, rows, int(100 * wobble)])
    reference = build_reference([draw(rng, rows, wobble, {}) for _ in range(CHUNKS)])
    for name, (changed, column, kinds) in CHANGES.items():
        found = compare(reference, profile_rows(draw(rng, rows, wobble, changed), reference.frozen)).alarms
        tell(name, bool(found), bool(found) and found[0].column == column and found[0].parts[0].name in kinds)


def main() -> None:
    """Draw, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=500)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--wobble", type=float, default=0.0)
    arguments = parser.parse_args()
    found, right = Counter[str](), Counter[str]()

    def tell(name: str, alarm: bool, cause: bool) -> None:  # noqa: FBT001 - two facts of one chunk
        found[name] += alarm
        right[name] += cause

    for seed in range(arguments.references):
        judge(seed, arguments.rows, arguments.wobble, tell)
    print(f"{arguments.references} references of {CHUNKS} x {arguments.rows} rows, wobble {arguments.wobble}")
    for name in CHANGES:
        share, cause = (count[name] / arguments.references for count in (found, right))
        print(f"  {name:<28} alarm {share:6.1%}" + (f"   right cause first {cause:6.1%}" if CHANGES[name][1] else ""))


if __name__ == "__main__":
    main()
