"""How often gates promote a challenger that is no better than the champion, and how often one that is: by simulation.

    python benchmarks/gate_simulation.py --challengers 2000

Every challenger and champion score fresh rows from one population; both see the same signal through noise of their own.
`equal`: the challenger is exactly as good, the least favourable case of "no better". `at the margin`: it is worse by just
the margin that `not_worse_than_champion` allows not. `better`: it is better by the stated effect, which gives the power.
Gates are asked at level 0.9, a one-sided 5 %.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from engine.components import load_catalogue
from engine.contracts import Evidence, Gate, Scores
from engine.evaluation.evaluate import evaluate_scores
from engine.evaluation.metrics import measure
from engine.evaluation.significance import wilson
from engine.spec import EvaluateSpec

ROOT = Path(__file__).resolve().parents[1]
LEVEL = 0.9
POPULATION = 100_000


@dataclass(frozen=True)
class World:
    """How much noise is between the signal and each model's score."""

    champion: float = 1.5
    challenger: float = 1.5
    rows: int = 1000

    def draw(self, random: np.random.Generator, rows: int | None = None) -> tuple[Scores, Scores]:
        """Give the challenger's and the champion's scores of the same fresh rows."""
        n = rows or self.rows
        signal = random.standard_normal(n)
        y = (random.random(n) < 1 / (1 + np.exp(-1.5 * signal))) * 1.0
        made = [signal + noise * random.standard_normal(n) for noise in (self.challenger, self.champion)]
        return Scores(y, 1 / (1 + np.exp(-made[0]))), Scores(y, 1 / (1 + np.exp(-made[1])))

    def effect(self, metric: str) -> float:
        """Give how much better the challenger truly is, on many rows."""
        ours, other = self.draw(np.random.default_rng(0), POPULATION)
        values = [measure(metric, scores.y, scores.prediction) or 0.0 for scores in (ours, other)]
        return values[0] - values[1]


@cache
def challenger_with(effect: float, metric: str) -> World:
    """Find the noise at which the challenger is better by that effect, by bisection on a large sample."""
    low, high = 0.2, 5.0
    for _ in range(12):
        middle = (low + high) / 2
        if World(challenger=middle).effect(metric) > effect:
            low = middle
        else:
            high = middle
    return World(challenger=(low + high) / 2)


def make_gate(kind: str, **params: Any) -> Gate:
    """Build a gate as a pipeline would."""
    component = load_catalogue(ROOT, ("gates_standard",)).get("gate", kind)
    gate: Gate = component.build(msgspec.convert({"level": LEVEL, **params}, component.params))
    return gate


def evidence_of(ours: Scores, other: Scores, primary: str, seed: int, resamples: int) -> Evidence:
    """Give what the gate would be shown."""
    spec = EvaluateSpec(metrics=(primary,), primary=primary, resamples=resamples, level=LEVEL, seed=seed)
    document = evaluate_scores("binary", {"challenger": ours, "champion": other}, {}, spec)
    return Evidence(
        task="binary", challenger=ours, baseline=None, champion=other, champion_name="champion", slices={}, validation={},
        metrics=msgspec.to_builtins(document), seed=seed,
    )  # fmt: skip


def promotions(gate: Gate, world: World, primary: str, challengers: int, resamples: int = 500) -> int:
    """Count how many of the challengers the gate lets pass."""
    passed = 0
    for index in range(challengers):
        ours, other = world.draw(np.random.default_rng([7, index]))
        passed += gate.decide("gate", evidence_of(ours, other, primary, index, resamples)).status == "pass"
    return passed


def scenarios(effect: float, margin: float) -> dict[str, dict[str, Any]]:
    """Give every gate with the worlds that it is tried in: `false` where passing is an error, `power` where it is right."""
    equal = World()
    better = partial(make_gate, "better_than_champion")
    return {
        "better_than_champion, bootstrap": {
            "gate": better(), "primary": "roc_auc", "false": equal, "power": challenger_with(effect, "roc_auc")},
        "better_than_champion, delong": {
            "gate": better(test="delong"), "primary": "roc_auc", "false": equal, "power": challenger_with(effect, "roc_auc")},
        "better_than_champion, mcnemar": {
            "gate": better(test="mcnemar"), "primary": "accuracy", "false": equal, "power": challenger_with(effect, "accuracy")},
        "not_worse_than_champion, at the margin": {
            "gate": make_gate("not_worse_than_champion", margin=margin), "primary": "roc_auc",
            "false": challenger_with(-margin, "roc_auc"), "power": equal},
    }  # fmt: skip


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--challengers", type=int, default=2000)
    parser.add_argument(
        "--effect", type=float, default=0.03, help="of the challenger that is better, in the metric's units"
    )
    parser.add_argument("--margin", type=float, default=0.02)
    parser.add_argument("--only", help="scenarios whose name has this")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = {}
    for name, item in scenarios(arguments.effect, arguments.margin).items():
        if arguments.only and arguments.only not in name:
            continue
        shares = {}
        for what in ("false", "power"):
            count = promotions(item["gate"], item[what], item["primary"], arguments.challengers)
            share = wilson(count, arguments.challengers)
            shares[what] = {"share": share.value, "low": share.low, "high": share.high}
        shares["effect"] = {
            "false": item["false"].effect(item["primary"]),
            "power": item["power"].effect(item["primary"]),
        }
        found[name] = shares
        if not arguments.json:
            wrong, right = shares["false"], shares["power"]
            print(f"{name:<40} false {wrong['share']:.4f} ({wrong['low']:.4f} to {wrong['high']:.4f})  "
                  f"power {right['share']:.4f} at {shares['effect']['power']:+.4f}", flush=True)  # fmt: skip
    if arguments.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
