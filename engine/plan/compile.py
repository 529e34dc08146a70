"""The execution plan: logical nodes with pins, code and limits, so that every key can be made.

`compile_plan` is pure in its arguments but for reading the engine's own files, whose digests are parts of keys.
"""

from __future__ import annotations

from typing import Any

import msgspec

from engine.components import Catalogue
from engine.contracts import Pin
from engine.durations import MICROSECONDS, microseconds
from engine.plan.code import code_of
from engine.plan.logical import LogicalNode, LogicalPlan
from engine.plan.model import Alternative, ExecutionPlan, PlanNode
from engine.plan.probes import PROBES
from engine.plan.resolve import Champion, Inputs
from engine.spec import ExecuteSpec

# Where the settings of each kind of node were declared, so that a change is told in the words of the YAML.
DECLARED_AT: dict[str, dict[str, str]] = {
    "ingest": {"spec": "sources.{name}", "program": "compiled sources.{name}"},
    "checkout": {"spec": "sources.{name}"},
    "features": {"program.steps": "features", "program": "compiled", "as_of": "as_of"},
    "split": {"component": "split.kind", "params": "split", "seed": "train.seed"},
    "train": {
        "program.steps": "features",
        "component": "{name}.kind",
        "params": "{name}",
        "task": "train.task",
        "columns": "train.features",
        "files": "{name}.files",
        **{key: f"train.{key}" for key in ("classes", "quantiles", "group", "weight", "class_weight", "calibration")},
    },
    "evaluate": {"evaluate": "evaluate", "task": "train.task"},
    "gate": {"gates": "gates"},
    "fit": {"program.steps": "features", "component": "train.kind", "params": "train", "task": "train.task"},
    "analysis": {"params": "{name}", "component": "{name}.kind", "evaluate": "evaluate"},
    **{f"probe.{probe}": {"asked": "gates"} for probe in PROBES},
    "promote": {"card": "card", "alias": "registry.alias", "model": "registry.model", "promote": "registry.promote"},
}


def compile_plan(
    plan: LogicalPlan, inputs: Inputs, catalogue: Catalogue, execute: ExecuteSpec, sample: float | None = None
) -> ExecutionPlan:
    """Give the plan whose nodes can be keyed. `sample` keeps that fraction of spine rows, chosen by a hash of their ids."""
    nodes = tuple(_compile(node, inputs, catalogue, execute, sample) for node in plan.nodes)
    return ExecutionPlan(pipeline=plan.spec.name, nodes=nodes)


def _compile(
    node: LogicalNode, inputs: Inputs, catalogue: Catalogue, execute: ExecuteSpec, sample: float | None
) -> PlanNode:
    settings: dict[str, Any] = dict(node.settings)
    uncacheable: str | None = None
    alternatives: tuple[Alternative, ...] = ()
    if node.kind in {"ingest", "checkout"}:
        pin = inputs.pins[str(settings["source"])]
        settings["pin"] = pin.identity
        uncacheable = _why_uncacheable(node, pin)
    elif node.kind in {"train", "fit"} and inputs.files:
        settings |= _files(node, inputs, catalogue)
    elif node.kind == "features":
        settings["sample"] = sample
    elif node.kind == "evaluate":
        settings["champion"] = inputs.champion.package if inputs.champion else None
        alternatives = _own_rival(inputs.champion)
    return PlanNode(
        name=node.name,
        kind=node.kind,
        inputs=dict(node.inputs),
        settings=settings,
        code=code_of(node, catalogue),
        alternatives=alternatives,
        uncacheable=uncacheable,
        effect=node.effect,
        title=node.title,
        declared_at=_declared_at(node),
        timeout_seconds=microseconds(execute.timeout) / MICROSECONDS["s"],
        retries=execute.retries,
        backoff_seconds=execute.backoff,
    )


def _files(node: LogicalNode, inputs: Inputs, catalogue: Catalogue) -> dict[str, Any]:
    """Give the content of the project's files that the node's trainer reads, by name; nothing when there are none."""
    given = [node.settings.get("params"), *(item["params"] for item in _candidates(node))]
    component = catalogue.get("trainer", str(node.settings["component"])) if "component" in node.settings else None
    names = {
        name
        for params in given
        if component is not None and params is not None
        for name in msgspec.convert(params, component.params).reads_files()
    }
    return {"files": {name: inputs.files[name] for name in sorted(names)}} if names else {}


def _candidates(node: LogicalNode) -> list[Any]:
    among: Any = node.settings.get("among", [])
    return list(among)


def _why_uncacheable(node: LogicalNode, pin: Pin) -> str | None:
    """Say why a source is looked at in every run, if it is."""
    spec: Any = node.settings["spec"]
    if pin.identity is None:
        return f"{pin.summary} cannot say beforehand what it will read"
    if node.kind == "ingest" and any(item["freshness"] for item in spec["expect"]):
        return "how fresh it is depends on the hour"
    return None


def _own_rival(champion: Champion | None) -> tuple[Alternative, ...]:
    """Compare a model that is the champion's own with the champion that it had to beat, as when it won.

    Otherwise promotion, which changes the champion, would make every second run evaluate once more.
    """
    if champion is None:
        return ()
    return (Alternative(role="model", digest=champion.model_digest, setting="champion", value=champion.compared_with),)


def _declared_at(node: LogicalNode) -> dict[str, str]:
    name = str(node.settings["source"]) if "source" in node.settings else node.name
    return {key: path.format(name=name) for key, path in DECLARED_AT.get(node.kind, {}).items()}
