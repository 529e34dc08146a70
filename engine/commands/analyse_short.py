"""What `engine analyse` asks for when nothing is named: ablations of the few features that matter most, not of all of them.

Enters: a declaration, the chosen analyses, and the stores. Leaves: the declaration with shorter ablations, and words that say
so. An ablation is a training for each feature; the importance that the last run measured says which are worth it first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from engine.api import Declared
from engine.errors import EngineError
from engine.locations import Stores
from engine.plan.analyses import subject_of
from engine.recording import Documents
from engine.runs import list_folders

MOST = 8
_RECENT = 50


def shorten(declared: Declared, names: Sequence[str], stores: Stores) -> tuple[Declared, list[str]]:
    """Leave each ablation without a list of features the `MOST` that matter most; needs a run that measured importance."""
    long = [name for name in names if _is_long(declared, name)]
    importance = last_importance(stores, declared.spec.name) if long else {}
    analyses, words = dict(declared.spec.analysis), []
    for name in long:
        if not importance:
            words.append(f"{name}: every feature is left out in turn, which takes as many trainings")
            continue
        params: Any = analyses[name].params
        kept, total = _first(declared, params.by, importance)
        analyses[name] = msgspec.structs.replace(
            analyses[name], params=msgspec.structs.replace(params, features=tuple(kept))
        )
        words.append(
            f"{name}: the {len(kept)} most important of {total} features; all of them: --only {name}, or --all"
        )
    spec = msgspec.structs.replace(declared.spec, analysis=analyses)
    return replace(declared, spec=spec, logical=replace(declared.logical, spec=spec)), words


def last_importance(stores: Stores, pipeline: str) -> Mapping[str, float]:
    """Give the importance of each column that the last run which trained the pipeline's model measured; else none."""
    for folder in list(reversed(list_folders(stores.runs_root)))[:_RECENT]:
        try:
            record = folder.read_record()
        except EngineError:
            continue
        if record.pipeline == pipeline and record.sample is None:
            found = Documents(stores.artefacts, {node.name: node for node in record.nodes}).read(
                "train", "importance.json"
            )
            if found:
                return {str(name): float(value) for name, value in found.items()}
    return {}


def _is_long(declared: Declared, name: str) -> bool:
    """Say whether an analysis is an ablation of all of more features than are left out by default."""
    item = declared.spec.analysis[name]
    params: Any = item.params
    subject = subject_of(declared.logical)
    names = subject.columns if getattr(params, "by", "") == "column" else set(subject.declared.values())
    return item.kind == "ablation" and not params.features and len(names) > MOST


def _first(declared: Declared, by: str, importance: Mapping[str, float]) -> tuple[list[str], int]:
    subject = subject_of(declared.logical)
    total: dict[str, float] = defaultdict(float)
    for column in subject.columns:
        total[subject.declared[column] if by == "declaration" else column] += importance.get(column, 0.0)
    ranked = sorted(total, key=lambda name: (-total[name], name))
    return ranked[:MOST], len(ranked)
