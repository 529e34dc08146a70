"""Analyses as nodes: one for each analysis that is asked for, and one for each model that it needs trained beside.

Enters: a logical plan and the names of declared analyses. Leaves: the plan with nodes `analysis.<name>`, `fit.<digest>` and
`split.<digest>`: equal fits are one node, whichever analyses ask for them, and their keys are those of any other node. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from engine.components import Params
from engine.errors import ConfigError, Problem
from engine.features.lineage import declarations
from engine.keys import Json, digest
from engine.plan.columns import choose_columns
from engine.plan.logical_nodes import LogicalNode, LogicalPlan, training_node
from engine.spec import identity
from engine.spec.analysis import Fit, SplitChoice, Subject

Nodes: TypeAlias = dict[str, LogicalNode]
_INNER = ["train", "validation"]


def add_analyses(plan: LogicalPlan, names: Sequence[str]) -> LogicalPlan:
    """Add the nodes of these analyses; raises `ConfigError` for what none of them can do with this pipeline."""
    if not names:
        return plan
    subject = subject_of(plan)
    known = {node.name: node for node in plan.nodes}
    made: Nodes = {}
    for name in names:
        declared = plan.spec.analysis[name]
        params = declared.params
        asked = _Asked(plan, f"analysis.{name}", made)
        try:
            fits = dict(params.fits(subject)) if isinstance(params, Params) else {}
        except ValueError as error:
            raise ConfigError([Problem(f"analysis.{name}", str(error))]) from None
        inputs = {f"fit.{label}": asked.fit(label, fits) for label in fits}
        settings: dict[str, Json] = {
            "component": declared.kind,
            "params": identity(params),
            "evaluate": _judgement(plan),
            "subject": {"columns": list(subject.columns), "declared": dict(subject.declared), "task": subject.task},
        }
        kinds: tuple[tuple[Any, str], ...] = (("analysis", declared.kind),)
        if isinstance(params, Params) and params.needs_model:
            inputs |= {"rows": "features", "split": "split", "model": "train"}
            kinds += (("trainer", plan.spec.train.kind),)
            if params.needs_baseline and "baseline" in known and plan.spec.baseline is not None:
                inputs["baseline"] = "baseline"
                kinds += (("trainer", plan.spec.baseline.kind),)
        made[f"analysis.{name}"] = LogicalNode(
            f"analysis.{name}", "analysis", inputs, settings, kinds, title=declared.kind
        )
    return plan.plus(*(node for name, node in made.items() if name not in known))


def subject_of(plan: LogicalPlan) -> Subject:
    """Say what of a pipeline analyses may vary."""
    columns = choose_columns(plan.program, plan.spec.train)
    declared = {name: how for name, (how, _) in declarations(plan.spec.features).items() if name in columns}
    return Subject(columns, {name: declared.get(name, name) for name in columns}, plan.spec.train.task)


def _judgement(plan: LogicalPlan) -> dict[str, Json]:
    """Say how analyses measure: as the evaluation does."""
    kept = ("primary", "metrics", "resamples", "level", "seed", "cluster")
    declared: Any = identity(plan.spec.evaluate)
    return {name: declared[name] for name in kept}


class _Asked:
    """Makes the nodes of one analysis; what another one has made already is taken."""

    def __init__(self, plan: LogicalPlan, path: str, made: Nodes) -> None:
        self._plan, self._path, self._made = plan, path, made

    def fit(self, label: str, fits: Mapping[str, Fit]) -> str:
        """Give the name of a fit's node, after those that speak for its candidates."""
        fit = fits[label]
        if fit.is_the_model:
            return self._add(
                "fit", {"score": fit.score, "cluster": self._plan.spec.evaluate.cluster}, _READS_MODEL, label
            )
        inputs = {"rows": "features", "split": self._split(fit.split)}
        settings = self._settings(fit)
        for place, candidate in enumerate(fit.among):
            for index, proof in enumerate(candidate.proofs):
                inputs[f"proof.{place}.{index}"] = self.fit(proof, fits)
        return self._add("fit", settings, inputs, label)

    def _settings(self, fit: Fit) -> dict[str, Json]:
        train = self._plan.spec.train
        node = training_node(self._plan, "train", train.kind, self._params(fit.params), train.seed + fit.seed)
        left = [name for name in choose_columns(self._plan.program, train) if name not in fit.without]
        if not left:
            raise ConfigError([Problem(self._path, "leaves the model no column", value=", ".join(fit.without))])
        among: list[Json] = [
            {
                "params": self._params({**fit.params, **item.params}),
                "said": dict(item.params),
                "proofs": len(item.proofs),
            }
            for item in fit.among
        ]
        varied: dict[str, Json] = {"share": fit.share, "latest": fit.latest, "draw": fit.draw, "among": among}
        kept: dict[str, Json] = {name: value for name, value in varied.items() if value != _PLAIN[name]}
        beside: dict[str, Json] = {"score": fit.score, "cluster": self._plan.spec.evaluate.cluster}
        if among:
            beside["evaluate"] = _judgement(self._plan)
        return {**node.settings, "columns": left, **kept, **beside}  # type: ignore[dict-item]

    def _params(self, changes: Mapping[str, Any]) -> Json:
        """Set dotted names among the trainer's parameters; raises `ConfigError` for what it does not take."""
        given = self._plan.spec.train.params
        if not changes:
            return identity(given)
        document: Any = identity(given)
        for path, value in changes.items():
            *parents, last = path.split(".")
            inner = document
            for part in parents:
                inner = inner.get(part) if isinstance(inner, dict) else None
            if not isinstance(inner, dict):
                raise ConfigError([Problem(self._path, f"the trainer has no parameter `{path}`", value=value)])
            inner[last] = value
        try:
            return identity(msgspec.convert(document, type(given), strict=True))
        except msgspec.ValidationError as error:
            raise ConfigError([Problem(self._path, f"the trainer refuses {dict(changes)}: {error}")]) from None

    def _split(self, choice: SplitChoice | None) -> str:
        if choice is None:
            return "split"
        seed = self._plan.spec.train.seed
        settings: dict[str, Json] = {"component": choice.kind, "params": dict(choice.params), "seed": seed}
        inputs = {"rows": "features"}
        if choice.within is not None:
            settings["parts"] = list(_INNER)
            inputs["within"] = self._split(choice.within)
        return self._add("split", settings, inputs, choice.kind, kind=choice.kind)

    def _add(self, what: str, settings: dict[str, Json], inputs: Mapping[str, str], title: str, kind: str = "") -> str:
        name = f"{what}.{digest({'settings': settings, 'inputs': dict(inputs)})[:10]}"
        component: tuple[Any, str] = ("splitter", kind) if kind else ("trainer", self._plan.spec.train.kind)
        if name not in self._made:
            node = LogicalNode(name, what, dict(inputs), settings, (component,), title=title)
            self._made[name] = node
        return name


_READS_MODEL = {"rows": "features", "split": "split", "model": "train"}
_PLAIN: Mapping[str, Json] = {"share": 1.0, "latest": False, "draw": 0, "among": []}
