"""How often monitors cry wolf, what they see, and how soon: seeded simulations over independent references.

    python benchmarks/monitor_simulation.py                  # everything, 500 references; about half an hour on two cores
    python benchmarks/monitor_simulation.py --only alarms --references 100

50 columns, of which 10 are categories and one of these has 5,000 values. "Wobble" moves every column of every chunk by a
normal 0.05 sd (0.05 of the log share of a category). Alarms are evidence alone: no effect size is asked for, which would
only lower the rate. The error is that of a binomial share.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from monitor_worlds import World, draw_categories, draw_moments, draw_numbers
from scipy import special

from engine.watch.category_evidence import judge_categories
from engine.watch.compare import WEIGHTS
from engine.watch.dependence_evidence import combine_pairs, judge_pairs
from engine.watch.moderation import dispersions, moderate
from engine.watch.number_evidence import Evidence, judge_numbers
from engine.watch.scores import adjust, combine
from engine.watch.sequential import COMPONENTS, RUN_LENGTH, combine_windows, level_of, windows_of

NUMBERS = 40
SLICE = 50  # references drawn at once, which bounds memory


def column_tails(evidence: Evidence) -> np.ndarray:
    """Combine each column's components as `compare` does, those for nulls and the like being silent."""
    silent = ("nulls", "not_finite") if "location" in evidence.names else ("nulls",)
    weights = np.array([*(WEIGHTS[name] for name in evidence.names), *(WEIGHTS[name] for name in silent)])
    shape = (*evidence.tail.shape[:-1], len(silent))
    tails = np.concatenate([evidence.tail, np.ones(shape)], axis=-1)
    present = np.concatenate([evidence.present, np.ones(shape, dtype=bool)], axis=-1)
    return combine(tails, np.where(present, weights, 0.0))


def chunk_tails(world: World, rng: np.random.Generator) -> np.ndarray:
    """Tail probabilities of all columns and of how they hang together, for chunks in which nothing changed."""
    numbers = column_tails(judge_numbers(draw_numbers(world, NUMBERS, rng)))
    categories = column_tails(judge_categories(draw_categories(world, rng)))
    pairs = combine_pairs(judge_pairs(draw_moments(world, NUMBERS, rng))[0])
    return np.concatenate([numbers, categories, pairs[:, None]], axis=1)


def false_alarms(references: int, sizes: tuple[int, ...], chunks: tuple[int, ...]) -> list[tuple[object, ...]]:
    """Measure P(any alarm in a chunk) when nothing changed."""
    found: list[tuple[object, ...]] = []
    for count in chunks:
        for rows in sizes:
            for wobble in (0.0, 0.05):
                rng = np.random.default_rng([count, rows, int(wobble * 100)])
                start, alarms, done = time.perf_counter(), 0, 0
                while done < references:
                    part = World(min(SLICE, references - done), count, rows, wobble)
                    alarms += int((adjust(chunk_tails(part, rng)).min(axis=1) <= 0.05).sum())
                    done += part.references
                rate = alarms / references
                error = np.sqrt(max(rate * (1 - rate), 1e-4) / references)
                found.append(("any alarm", f"K={count} n={rows} wobble={wobble}", rate, error))
                print(
                    f"  K={count:<3} n={rows:<6} wobble={wobble:<5} {rate:6.3f} ± {error:.3f}   {time.perf_counter() - start:.0f} s",
                    flush=True,
                )
    return found


def first_chunk(references: int) -> None:
    """Measure how often abrupt changes are found in the first chunk, n = 2,000, K = 10, among 51 tests at 5 %."""
    rng = np.random.default_rng(3)
    world = World(references, 10, 2_000)
    wanted = 0.05 / (NUMBERS + 11)
    changes = {
        "mean + 0.2 sd": lambda x: special.ndtr(x - 0.2),
        "mean + 0.1 sd": lambda x: special.ndtr(x - 0.1),
        "spread x 1.1": lambda x: special.ndtr(x / 1.1),
        "tail: 2 % from N(0, 4)": lambda x: 0.98 * special.ndtr(x) + 0.02 * special.ndtr(x / 4),
    }
    for name, cdf in changes.items():
        parts = [
            column_tails(judge_numbers(draw_numbers(World(min(SLICE, references - low), 10, 2_000), NUMBERS, rng, cdf)))
            for low in range(0, references, SLICE)
        ]
        print(f"  {name:<26} found in {np.concatenate(parts).__le__(wanted).mean():6.1%}")
    mix = column_tails(judge_categories(draw_categories(world, rng, lambda p: _first_up(p, 0.1))))[:, :-1]
    print(f"  {'mix: first category + 10 %':<26} found in {(mix <= wanted).mean():6.1%}")
    pair = combine_pairs(judge_pairs(draw_moments(world, NUMBERS, rng, 0.2))[0])
    print(f"  {'correlation 0 to 0.2':<26} found in {(pair <= wanted).mean():6.1%}")


def _first_up(shares: np.ndarray, by: float) -> np.ndarray:
    moved = shares * (1 - by)
    moved[0] += by
    return moved


def best_trends(world: World, length: int, moved: np.ndarray, seed: int) -> np.ndarray:
    """The smallest adjusted tail over columns at each moment of a run: means of chunks, as normal as they are at n = 2,000."""
    rng = np.random.default_rng(seed)
    shape, within = (world.references, NUMBERS + 10), 1.0 / np.sqrt(world.rows)
    total = world.chunks * world.rows
    found = []
    for spread in (np.hypot(within, world.wobble), within):  # location wobbles; the spread does not
        known = rng.normal(0.0, spread, (*shape, world.chunks))
        new = rng.normal(0.0, spread, (*shape, length))
        if not found:
            new[:, 0] += moved[:length]
        apart = (known - known.mean(axis=-1, keepdims=True)) * world.chunks / (world.chunks - 1)
        squared = apart**2 / (1.0 / world.rows + 1.0 / (total - world.rows))
        law = moderate(dispersions(squared, 1.0, np.ones(shape, dtype=bool)))
        sums = np.concatenate([np.zeros((*shape, 1)), np.cumsum(new, axis=-1)], axis=-1)
        moments = []
        for now in range(1, length + 1):
            tails = []
            for window in windows_of(now):
                mean = (sums[..., now] - sums[..., now - window]) / window - known.mean(axis=-1)
                tails.append(law.tail(mean**2 / (1.0 / (window * world.rows) + 1.0 / total)))
            moments.append(combine_windows(np.stack(tails, axis=-1)))
        found.append(np.stack(moments, axis=-1))
    weights = np.array([COMPONENTS["location"], COMPONENTS["spread"]])
    column = combine(np.stack(found, axis=-1), np.broadcast_to(weights, (*shape, length, 2)))
    return np.minimum(1.0, column * shape[1]).min(axis=1)


def run_lengths(references: int, length: int = 200) -> None:
    """Measure the average run length without change, and the delay of a jump and of a creep."""
    level = level_of(RUN_LENGTH)
    for chunks in (10, 30):
        for wobble in (0.0, 0.05):
            world = World(references, chunks, 2_000, wobble)
            quiet = best_trends(world, length, np.zeros(length), 1) <= level
            first = np.where(quiet.any(axis=1), quiet.argmax(axis=1) + 1, length)
            run = first.sum() / max(quiet.any(axis=1).sum(), 1)
            told = []
            for moved, seed in ((np.full(40, 0.2), 2), (0.05 * np.arange(1, 41), 3)):
                seen = best_trends(world, 20, moved, seed) <= level
                told.append(float(np.median(np.where(seen.any(axis=1), seen.argmax(axis=1) + 1, 99))))
            print(
                f"  K={chunks:<3} wobble={wobble:<5} run length {run:6.0f}   0.2 sd: {told[0]:.0f} chunks   0.05 sd a chunk: {told[1]:.0f}",
                flush=True,
            )


def main() -> None:
    """Run what is asked for and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=500)
    parser.add_argument("--only", choices=("alarms", "power", "runs"))
    parser.add_argument("--rows", type=int, nargs="*", default=[500, 2_000, 10_000])
    parser.add_argument("--chunks", type=int, nargs="*", default=[10, 30])
    arguments = parser.parse_args()
    if arguments.only in {None, "alarms"}:
        print(f"P(any alarm in a chunk), nothing changed, level 5 %, {arguments.references} references")
        false_alarms(arguments.references, tuple(arguments.rows), tuple(arguments.chunks))
    if arguments.only in {None, "power"}:
        print("found in the first chunk, n = 2,000, K = 10, one of 51 tests at 5 % over all")
        first_chunk(min(arguments.references, 200))
    if arguments.only in {None, "runs"}:
        print(f"slow change, n = 2,000, declared run length {RUN_LENGTH}")
        run_lengths(min(arguments.references, 500))


if __name__ == "__main__":
    main()
