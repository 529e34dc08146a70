"""Data made of integer formulas, the same in every version of numpy: what the figures of other tools were taken on."""

from __future__ import annotations

import numpy as np


def uniform(count: int, seed: int) -> np.ndarray:
    """Numbers between 0 and 1 that look drawn."""
    i = np.arange(count, dtype=np.int64)
    return (((i * 7919 + seed * 104729) % 1000003 * 31337 + i * i % 65537) % 1000003 + 0.5) / 1000003


def bell(count: int, seed: int) -> np.ndarray:
    """Nearly normal numbers."""
    return sum(uniform(count, seed + part) for part in range(6)) - 3.0


def columns(count: int, seed: int, moved: float) -> dict[str, np.ndarray]:
    """Eight columns of many shapes; `moved` changes all of them."""
    colours = np.array(["amber", "blue", "cyan", "drab"])
    return {
        "bell": bell(count, seed) + moved,
        "tail": 1.0 / (1.0 - 0.999 * uniform(count, 100 + seed)) * (1 + moved),
        "few": np.floor(uniform(count, 200 + seed) * 4 + moved),
        "whole": np.floor(uniform(count, 300 + seed) ** 2 * 30 + 3 * moved),
        "binary": np.where(uniform(count, 400 + seed) < 0.3 + moved / 4, "no", "yes"),
        "colour": colours[np.minimum((uniform(count, 500 + seed) ** (1 + moved) * 4).astype(int), 3)],
        "city": np.char.add("c", (uniform(count, 600 + seed) ** 2 * (60 + 40 * moved)).astype(int).astype(str)),
        "gaps": np.where(uniform(count, 700 + seed) < 0.1 + moved / 4, np.nan, bell(count, 50 + seed)),
    }


def mixed(count: int, seed: int) -> np.ndarray:
    """Numbers between 0 and 1 that go with nothing (Steele et al. 2014, splitmix64)."""
    x = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed * 1000003 + 1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53


def scores(count: int, seed: int, moved: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels that the scores overstate."""
    score = np.clip(0.02 + 0.96 * mixed(count, 800 + seed) ** (1.5 - moved), 0, 1)
    return score, (mixed(count, 900 + seed) < score**1.6).astype(float)
