"""A small edition of benchmarks/monitor_simulation.py: quiet when nothing changes, loud when something does.

A binomial error is stated with each rate; PLUMBLINE_REFERENCES asks for more references.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import special

REFERENCES = int(os.environ.get("PLUMBLINE_REFERENCES", "60"))


@pytest.fixture(scope="module")
def simulation():
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("monitor_simulation")
    finally:
        sys.path.remove(folder)


@pytest.mark.parametrize("wobble", [0.0, 0.05])
def test_hardly_any_chunk_is_in_alarm_when_nothing_changed(simulation, wobble: float) -> None:
    rng = np.random.default_rng(11)
    world = simulation.World(REFERENCES, 10, 500, wobble)
    rate = (simulation.adjust(simulation.chunk_tails(world, rng)).min(axis=1) <= 0.05).mean()
    assert rate <= 0.06 + 3 * np.sqrt(0.06 * 0.94 / REFERENCES)  # 0.15 with 60 references; peers raise 0.97 and more


def test_tail_probabilities_are_uniform_under_wobble(simulation) -> None:
    evidence = simulation.judge_numbers(
        simulation.draw_numbers(simulation.World(20, 10, 2_000, 0.05), 40, np.random.default_rng(5))
    )
    for index, name in enumerate(evidence.names):
        share = (evidence.tail[..., index] <= 0.05).mean()
        assert share <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 800), name


def test_a_fifth_of_a_standard_deviation_is_found_at_once(simulation) -> None:
    world = simulation.World(10, 10, 2_000)
    moved = simulation.draw_numbers(world, 40, np.random.default_rng(6), lambda x: special.ndtr(x - 0.2))
    assert (simulation.column_tails(simulation.judge_numbers(moved)) <= 0.05 / 51).mean() >= 0.95


def test_runs_without_change_are_long_and_changes_are_found_soon(simulation) -> None:
    world = simulation.World(30, 10, 2_000, 0.05)
    level = simulation.level_of(simulation.RUN_LENGTH)
    quiet = simulation.best_trends(world, 40, np.zeros(40), 1) <= level
    assert quiet.any(axis=1).mean() <= 40 / 200 + 3 * np.sqrt(0.2 * 0.8 / 30)
    jump = simulation.best_trends(world, 10, np.full(10, 0.2), 2) <= level
    assert np.median(np.where(jump.any(axis=1), jump.argmax(axis=1) + 1, 99)) <= 2
    creep = simulation.best_trends(world, 10, 0.05 * np.arange(1, 11), 3) <= level
    assert np.median(np.where(creep.any(axis=1), creep.argmax(axis=1) + 1, 99)) <= 5
