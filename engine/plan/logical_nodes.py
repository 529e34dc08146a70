"""Logical nodes: a declaration as steps, before anything is known of data, code or champion.

The values that the passes of `logical`, `probes` and `analyses` fold over. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from engine.components import Role
from engine.features.program import CompileResult, FeatureProgram, SourceProgram
from engine.keys import Json
from engine.plan.columns import choose_columns
from engine.spec import PipelineSpec, TrainSpec, identity
from engine.spec.training import DEFAULT_QUANTILES

Components: TypeAlias = tuple[tuple[Role, str], ...]


@dataclass(frozen=True, slots=True)
class LogicalNode:
    """One step: its kind, what fills its inputs, what was declared of it, and the components that it uses."""

    name: str
    kind: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Json] = field(default_factory=dict)
    components: Components = ()
    effect: bool = False
    title: str = ""


@dataclass(frozen=True, slots=True)
class LogicalPlan:
    """A declaration as steps, with the compiled feature program that they share, and what follows from that alone.

    `document` is the program as JSON, `pii` its features that come from personal data.
    """

    spec: PipelineSpec
    compiled: CompileResult
    document: Json
    pii: Mapping[str, str]
    nodes: tuple[LogicalNode, ...] = ()

    @property
    def program(self) -> FeatureProgram:
        """The feature program."""
        return self.compiled.program

    @property
    def sources(self) -> Mapping[str, SourceProgram]:
        """What ingest does to each declared source."""
        return self.compiled.sources

    def plus(self, *nodes: LogicalNode) -> LogicalPlan:
        """Give the plan with more nodes at its end."""
        return replace(self, nodes=self.nodes + nodes)


def _target_settings(train: TrainSpec) -> dict[str, Json]:
    """Give what was declared of the target beyond the task; nothing of it by default, so that no key changes."""
    declared: dict[str, Json] = {
        "classes": [str(name) for name in train.classes],
        "quantiles": list(train.quantiles or DEFAULT_QUANTILES) if train.task == "quantile" else [],
        "group": train.group,
        "weight": train.weight,
        "class_weight": identity(train.class_weight),
    }
    return {key: value for key, value in declared.items() if value}


def training_node(plan: LogicalPlan, name: str, kind: str, params: Json, seed: int) -> LogicalNode:
    """Give the node that fits one model on the rows of the split."""
    settings: dict[str, Json] = {
        "component": kind,
        "params": params,
        "task": plan.spec.train.task,
        "seed": seed,
        "program": plan.document,
        "columns": list(choose_columns(plan.program, plan.spec.train)),
        **_target_settings(plan.spec.train),
    }
    if name == "train" and plan.spec.train.calibration is not None:
        settings["calibration"] = identity(plan.spec.train.calibration)
    inputs = {"rows": "features", "split": "split"}
    return LogicalNode(name, "train", inputs, settings, (("trainer", kind),), title=kind)
