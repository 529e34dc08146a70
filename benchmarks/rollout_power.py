"""How a rollout's sequential comparison decides, by simulation: false alarms over many looks, and power by effect.

    python benchmarks/rollout_power.py --runs 2000

Losses are Brier's of a binary label (rate 0.2). A run is one rollout: `labels` answers, looked at a hundred times. At no effect every
decision is false (surely worse: rolled back; surely better: promoted with margin 0); with an effect the challenger is worse by
that much, and what counts is how often, and after how many labels, it is rolled back. A split of one half, and a shadow.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from engine.evaluation.sequential import mean_sequence, split_sequence
from engine.evaluation.significance import wilson

LOOKS = 100


def draw(random: np.random.Generator, labels: int, effect: float) -> tuple[np.ndarray, np.ndarray]:
    """Give the losses of both models on the same rows; the challenger's mean loss is larger by `effect`."""
    chance = random.beta(2, 8, labels)
    y = random.random(labels) < chance
    champion = np.square(y - np.clip(chance + 0.03 * random.standard_normal(labels), 0, 1))
    # Independent noise of variance `effect` adds just that to the mean squared error.
    noise = np.sqrt(0.0009 + effect) * random.standard_normal(labels)
    return np.square(y - (chance + noise)), champion


def first_decision(random: np.random.Generator, labels: int, effect: float, mode: str) -> tuple[str, int]:
    """Look a hundred times; gives what was decided first and after how many labels."""
    ours, theirs = draw(random, labels, effect)
    share = np.full(labels, 0.5)
    sent = random.random(labels) < share
    losses = np.where(sent, ours, theirs)
    for look in np.linspace(labels // LOOKS, labels, LOOKS).astype(int):
        if mode == "shadow":
            found = mean_sequence((ours - theirs)[:look], 0.05)
        else:
            found = split_sequence(losses[:look], sent[:look], share[:look], 0.05)
        if found.low > 0 or found.high < 0:
            return ("worse" if found.low > 0 else "better"), int(look)
    return "open", labels


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--labels", type=int, default=20_000)
    parser.add_argument("--effects", type=float, nargs="*", default=[0.0, 0.005, 0.01, 0.02])
    arguments = parser.parse_args()
    answer = []
    for mode in ("shadow", "split"):
        for effect in arguments.effects:
            made = [
                first_decision(np.random.default_rng([11, run]), arguments.labels, effect, mode)
                for run in range(arguments.runs)
            ]
            wanted = {"worse"} if effect else {"worse", "better"}
            decided = [look for word, look in made if word in wanted]
            share = wilson(len(decided), arguments.runs)
            answer.append({
                "mode": mode, "effect": effect, "decided": share.value, "low": share.low, "high": share.high,
                "median_labels": float(np.median(decided)) if decided else None,
                "called_better": sum(word == "better" for word, _ in made),
            })  # fmt: skip
    print(json.dumps({"runs": arguments.runs, "labels": arguments.labels, "looks": LOOKS, "found": answer}, indent=2))


if __name__ == "__main__":
    main()
