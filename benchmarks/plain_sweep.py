"""The floor of a sweep: a plain Hydra application whose every job computes the features and trains, with nothing shared.

    python benchmarks/plain_sweep.py -m +leaves=7,15,31 +project=DIR +times=FILE "+words=['pipeline=heavy']"

The very same bodies as the engine's nodes, called one after the other in this process; each job appends its seconds of data
(ingest, features, split) and of training (train, tune) to a file.
"""

from __future__ import annotations

import importlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import hydra

from engine.api import declare, plan
from engine.contracts import Artefact, Place, Work
from engine.nodes import BODIES
from engine.plan.compile import compile_plan
from engine.plan.logical import tune_model
from engine.project import Project


def run_job(project: Project, overrides: list[str]) -> dict[str, float]:
    """Run one job from nothing; gives seconds of data and of training."""
    planned = plan(declare(project, overrides))
    declared = planned.declared
    logical = tune_model(declared.logical, ("roc_auc",))
    bound = compile_plan(logical, planned.inputs, declared.catalogue, declared.settings.execute)
    seconds = {"data": 0.0, "training": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        place = Place(
            project.root, f"{folder}/snapshots", f"{folder}/artefacts", planned.plugins, os.cpu_count() or 1, "plain"
        )
        done: dict[str, Artefact] = {}
        for node in bound.nodes:
            if node.kind not in {"ingest", "features", "split", "train", "tune"} or node.name == "baseline":
                continue
            since = time.perf_counter()
            module, _, function = BODIES[node.kind].partition(":")
            out = Path(folder) / node.name
            out.mkdir()
            inputs = {role: done[name] for role, name in node.inputs.items()}
            body: Any = getattr(importlib.import_module(module), function)
            notes = body(Work(node.name, node.settings, inputs, out, place, lambda *_: None))
            done[node.name] = Artefact(out, node.name, notes)
            seconds["training" if node.kind in {"train", "tune"} else "data"] += time.perf_counter() - since
    return seconds


@hydra.main(version_base=None, config_path=None)
def main(config: Any) -> None:
    """Run one job of Hydra's."""
    words = [*config.words, f"train.params.num_leaves={config.leaves}"]
    seconds = run_job(Project(Path(config.project)), words)
    with Path(config.times).open("a") as file:
        file.write(json.dumps(seconds) + "\n")


if __name__ == "__main__":
    main()
