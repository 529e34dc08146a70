"""What must be seen in the first chunk, with the right cause first: nulls from 5 % to 15 %, a category never seen at 1 %, and a jump.

    python benchmarks/monitor_at_once.py [--references 500] [--wobble 0.05]

Worlds are those of `monitor_power.py`, with 5 % nulls in one column. A change is found when the comparison is in alarm with the
standard rules (evidence over all columns at 5 %, a size of at least 0.1); its cause is right when the most telling alarm is that
column's, and names that kind of change.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
from monitor_power import CHUNKS, ROWS, draw

from engine.watch.compare import compare
from engine.watch.profile import profile_rows
from engine.watch.reference import build_reference

Changed = Mapping[str, float]
CHANGES: Mapping[str, tuple[Changed, str, frozenset[str]]] = {
    "nulls 5 % to 15 %": ({"nulls": 0.15}, "x0", frozenset({"nulls"})),
    "an unseen category at 1 %": ({"unseen": 0.01}, "c5", frozenset({"unseen", "new_value"})),
    "mean + 0.2 sd": ({"jump": 0.2}, "x1", frozenset({"location"})),
    "nothing changed": ({}, "", frozenset()),
}


def draw_changed(rng: np.random.Generator, wobble: float, changed: Changed) -> pl.DataFrame:
    """One chunk; `changed` says the share of nulls and of the unseen category, and how far a mean jumps."""
    rows = draw(rng, wobble)
    absent, new = (rng.random(ROWS) < share for share in (changed.get("nulls", 0.05), changed.get("unseen", 0.0)))
    return rows.with_columns(
        rows["x0"].set(pl.Series(absent), None),
        pl.col("x1") + changed.get("jump", 0.0),
        rows["c5"].set(pl.Series(new), "new"),
    )


def judge(seed: int, wobble: float) -> Iterator[tuple[str, bool, bool]]:
    """Draw a reference, and a chunk of each kind; give what was found, and whether the cause was right."""
    rng = np.random.default_rng([seed, int(100 * wobble)])
    reference = build_reference([draw_changed(rng, wobble, {}) for _ in range(CHUNKS)])
    for name, (changed, column, kinds) in CHANGES.items():
        found = compare(reference, profile_rows(draw_changed(rng, wobble, changed), reference.frozen)).alarms
        yield name, bool(found), bool(found) and found[0].column == column and found[0].parts[0].name in kinds


def main() -> None:
    """Draw, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=500)
    parser.add_argument("--wobble", type=float, default=0.0)
    arguments = parser.parse_args()
    found, right = Counter[str](), Counter[str]()
    for seed in range(arguments.references):
        for name, alarm, cause in judge(seed, arguments.wobble):
            found[name] += alarm
            right[name] += cause
    print(f"{arguments.references} references of {CHUNKS} x {ROWS} rows, wobble {arguments.wobble}")
    for name in CHANGES:
        share, cause = (count[name] / arguments.references for count in (found, right))
        print(f"  {name:<28} alarm {share:6.1%}" + (f"   right cause first {cause:6.1%}" if CHANGES[name][1] else ""))


if __name__ == "__main__":
    main()
