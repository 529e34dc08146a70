"""Few of the challengers that are no better than the champion are promoted: the benchmark in small.

`PLUMBLINE_CHALLENGERS` sets how many; 2,000 give the figure that is quoted.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "gate_simulation.py"
CHALLENGERS = int(os.environ.get("PLUMBLINE_CHALLENGERS", "60"))


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("gate_simulation", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate_simulation"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gate_simulation"]


@pytest.mark.parametrize(
    ("test", "primary"), [("bootstrap", "roc_auc"), ("delong", "roc_auc"), ("mcnemar", "accuracy")]
)
def test_false_promotions_and_power(simulation, test, primary):
    gate = simulation.make_gate("better_than_champion", test=test)
    none = simulation.promotions(gate, simulation.World(rows=500), primary, CHALLENGERS, 60)
    # At most 6 %, and for few challengers as many more as chance explains (three standard errors).
    assert none <= 0.06 * CHALLENGERS + 3 * (0.05 * 0.95 * CHALLENGERS) ** 0.5
    clearly = simulation.promotions(gate, simulation.World(challenger=0.5, rows=500), primary, 10, 60)
    assert clearly >= 8


def test_a_challenger_worse_by_the_margin_seldom_passes_as_not_worse(simulation):
    gate = simulation.make_gate("not_worse_than_champion", margin=0.025)
    world = simulation.World(challenger=2.0, rows=500)
    assert world.effect("roc_auc") < -0.025
    passed = simulation.promotions(gate, world, "roc_auc", CHALLENGERS, 60)
    assert passed <= 0.06 * CHALLENGERS + 3 * (0.05 * 0.95 * CHALLENGERS) ** 0.5
