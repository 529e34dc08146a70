"""Confidence sequences hold at every look together, and the ratio test does not cry wolf."""

from __future__ import annotations

import os

import numpy as np

from engine.evaluation.sequential import mean_sequence, ratio_evidence, split_sequence

RUNS = int(os.environ.get("PLUMBLINE_SEQUENTIAL_RUNS", "200"))
LOOKS = [int(look) for look in np.linspace(40, 4000, 100)]


def wrong_at_any_look(values: np.ndarray, level: float) -> bool:
    return any(bound.low > 0 or bound.high < 0 for bound in (mean_sequence(values[:look], level) for look in LOOKS))


def test_at_most_five_in_a_hundred_are_wrong_over_a_hundred_looks() -> None:
    draw = np.random.default_rng(1)
    wrong = sum(wrong_at_any_look(draw.exponential(size=4000) - 1, 0.05) for _ in range(RUNS))
    assert wrong <= 0.05 * RUNS + 2 * np.sqrt(0.05 * 0.95 * RUNS)


def test_a_split_that_ramps_is_compared_without_bias() -> None:
    draw = np.random.default_rng(2)
    wrong = 0
    share = np.where(np.arange(4000) < 2000, 0.05, 0.2)
    for _ in range(RUNS):
        ours = draw.random(4000) < share
        losses = (draw.random(4000) - draw.beta(2, 5, 4000)) ** 2
        bounds = (split_sequence(losses[:look], ours[:look], share[:look], 0.05) for look in LOOKS)
        wrong += any(bound.low > 0 or bound.high < 0 for bound in bounds)
    assert wrong <= 0.05 * RUNS + 2 * np.sqrt(0.05 * 0.95 * RUNS)


def test_a_real_difference_is_found() -> None:
    draw = np.random.default_rng(3)
    share = np.full(6000, 0.5)
    ours = draw.random(6000) < share
    losses = draw.random(6000) * 0.2 + np.where(ours, 0.05, 0.0)
    found = split_sequence(losses, ours, share, 0.05)
    assert found.low > 0
    assert found.low < 0.05 < found.high


def test_too_few_values_say_nothing() -> None:
    assert mean_sequence(np.ones(29), 0.05).high == np.inf
    assert mean_sequence(np.empty(0), 0.05).n == 0


def test_the_ratio_test_finds_a_broken_split_and_no_other() -> None:
    draw = np.random.default_rng(4)
    cries = 0
    for _ in range(RUNS):
        ours = np.cumsum(draw.random(5000) < 0.2)
        cries += any(ratio_evidence([(int(ours[n - 1]), n - int(ours[n - 1]), 0.2)]) > 20 for n in range(50, 5001, 50))
    assert cries <= 0.05 * RUNS + 2 * np.sqrt(0.05 * 0.95 * RUNS)
    assert ratio_evidence([(300, 700, 0.2)]) > 1000
    assert ratio_evidence([(10, 20, 0.0), (5, 0, 1.0)]) == 1.0
