"""One plan for all policies: features once, a model for each moment, a replay for each policy, one measurement.

Enters: a planned pipeline, moments and policies. Leaves: an `ExecutionPlan` whose nodes are keyed and cached like any others: a
training is keyed by its data cut and configuration, so policies that retrain at the same moment share it, and so does the
backtest of tomorrow. Pure but for reading the engine's own files for keys.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.api import Planned
from engine.backtest.moments import Moments
from engine.backtest.policies import Policy, reads_profiles
from engine.backtest.splitting import split_at
from engine.clock import isoformat
from engine.components import Catalogue, Role, library_version
from engine.evaluation.names import choose_metrics
from engine.keys import Json
from engine.loop.declarations import Declared as LoopDeclared
from engine.nodes import BODIES
from engine.plan.code import engine_digest
from engine.plan.model import ExecutionPlan, PlanNode
from engine.spec import PipelineSpec, StoresSpec, identity

BACKTEST_BODIES: Mapping[str, str] = {
    **BODIES,
    "backtest.span": "engine.backtest.cutting:find_span",
    "backtest.content": "engine.backtest.cutting:count_content",
    "backtest.cut": "engine.backtest.cutting:cut_rows",
    "backtest.train": "engine.backtest.training:train",
    "backtest.refer": "engine.backtest.watching:refer",
    "backtest.rule": "engine.backtest.verdicts:rule_challenger",
    "backtest.replay": "engine.backtest.replaying:replay",
    "backtest.measure": "engine.backtest.measuring:measure_policies",
}
SPAN, CONTENT, MEASURE = "span", "content", "measure"
_FIRST = frozenset({"ingest", "checkout", "features"})
_CUT_CODE = ("backtest/cutting.py", "nodes/split.py", "nodes/frames.py")
_RULING_CODE = (
    "backtest/verdicts.py", "backtest/history.py", "evaluation/*.py", "features/*.py", "nodes/frames.py", "nodes/matrix.py",
    "nodes/target.py", "nodes/calibrators.py",
)  # fmt: skip
_REFERENCE_CODE = ("backtest/watching.py", "backtest/history.py", "watch/*.py", "nodes/frames.py")
_REPLAY_CODE = (
    "backtest/replaying.py", "backtest/verdicts.py", "backtest/watching.py", "backtest/history.py",
    "loop/judging.py", "loop/decide.py", "loop/gather.py", "loop/slots.py", "loop/readings.py", "watch/*.py", "evaluation/*.py",
    "features/*.py", "nodes/frames.py", "nodes/matrix.py", "nodes/target.py", "nodes/calibrators.py",
)  # fmt: skip
_MEASURE_CODE = ("backtest/measuring.py", "backtest/history.py", "evaluation/*.py", "nodes/target.py")
_BACK = 2  # how many moments back the model may be that a challenger is held to in a node
_LIBRARIES = ("polars", "numpy", "scipy")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is compared and how it is measured.

    `gates` says which gates decide about promotions: those that judge scores and rows, `all` with probes (slower), or `none`.
    `trained` limits the moments of which there are models, by policy; without it every policy may train at every moment.
    """

    moments: Moments
    policies: tuple[Policy, ...]
    metric: str
    gates: str = "scores"
    trained: Mapping[str, Collection[int]] | None = None


def first_plan(planned: Planned) -> ExecutionPlan:
    """Plan what has to be known before moments can be chosen: the rows, and the time that they span."""
    nodes = [node for node in planned.plan.nodes if node.kind in _FIRST]
    return msgspec.structs.replace(planned.plan, nodes=(*nodes, _span()))


def whole_plan(planned: Planned, wanted: Wanted) -> ExecutionPlan:
    """Plan everything."""
    builder = _Builder(planned, wanted)
    nodes = [*first_plan(planned).nodes, *builder.content()]
    for index in sorted(builder.all_trained()):
        nodes += builder.model(index)
    nodes += [*builder.rulings(), *builder.references()]
    nodes += [builder.replay(policy) for policy in wanted.policies]
    return msgspec.structs.replace(planned.plan, nodes=(*nodes, builder.measure()))


def gates_of(spec: PipelineSpec, gates: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Name the gates that are replayed, and say why the others are not."""
    if gates == "none":
        return (), dict.fromkeys(spec.gates, "asked for: --gates none")
    left_out = {} if gates == "all" else {
        name: f"needs the probe `{probe}` of every challenger: --gates all"
        for name, gate in spec.gates.items()
        for probe in sorted(_demanded(gate.params) - {"columns"})[:1]
    }  # fmt: skip
    return tuple(name for name in spec.gates if name not in left_out), left_out


def _demanded(params: Any) -> frozenset[str]:
    return frozenset(params.demands()) if hasattr(params, "demands") else frozenset()


def _columns(params: Any) -> tuple[str, ...]:
    """Name the columns that a gate tells groups apart by."""
    asked = params.demands().get("columns") if hasattr(params, "demands") else None
    return tuple(asked.names) if asked is not None else ()


def _span() -> PlanNode:
    code = _code(("backtest/cutting.py",), ("polars",))
    return PlanNode(name=SPAN, kind="backtest.span", inputs={"rows": "features"}, code=code, title="the history's span")


def _code(patterns: tuple[str, ...], libraries: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    return {"engine": engine_digest(patterns), **{f"library:{name}": library_version(name) for name in libraries}}


def _components(catalogue: Catalogue, named: Mapping[Role, Collection[str]]) -> dict[str, str]:
    return {
        f"{role}:{name}": catalogue.get(role, name).source_digest
        for role, names in named.items()
        for name in sorted(set(names))
    }


@dataclass(frozen=True, slots=True)
class _Builder:
    planned: Planned
    wanted: Wanted

    @property
    def _spec(self) -> PipelineSpec:
        return self.planned.declared.spec

    @property
    def _names(self) -> tuple[str, ...]:
        return self.wanted.moments.names

    def all_trained(self) -> frozenset[int]:
        """Give every moment of which some policy may have a model; all start with the first."""
        return frozenset().union(*(self._trained(policy) for policy in self.wanted.policies))

    def _trained(self, policy: Policy) -> frozenset[int]:
        if not policy.triggers:
            return frozenset({0})
        if self.wanted.trained is None:
            return frozenset(range(len(self._names)))
        return frozenset({0, *self.wanted.trained[policy.name]})

    def content(self) -> list[PlanNode]:
        """Count what sources held at each moment, when a trigger may ask."""
        if not any(policy.counts_content for policy in self.wanted.policies):
            return []
        features = self.planned.plan.node("features")
        settings: dict[str, Any] = {"program": features.settings["program"], "moments": self._moments()}
        code = _code(("backtest/cutting.py", "features/*.py"), ("polars", "numpy"))
        return [
            PlanNode(name=CONTENT, kind="backtest.content", inputs=dict(features.inputs), settings=settings, code=code)
        ]

    def _moments(self) -> list[str]:
        return [isoformat(moment) for moment in self.wanted.moments.at]

    def model(self, index: int) -> list[PlanNode]:
        """Plan the rows, the model, the baseline and the probes of one moment."""
        name, moment = self._names[index], self.wanted.moments.at[index]
        plan, cut = self.planned.plan, f"cut@{name}"
        split = plan.node("split")
        settings = {**split.settings, "moment": isoformat(moment)}
        settings["params"] = split_at(split.settings["params"], moment)
        code = {**split.code, "engine": engine_digest(_CUT_CODE)}
        nodes = [msgspec.structs.replace(
            split, name=cut, kind="backtest.cut", settings=settings, code=code, title=f"rows known at {name}"
        )]  # fmt: skip
        renamed = {"split": cut, "model": f"train@{name}"}
        for node in plan.nodes:
            probe = node.name.startswith("probe.") and node.name != "probe.columns" and self.wanted.gates == "all"
            if not (probe or node.name == "train" or (node.name == "baseline" and self.wanted.gates != "none")):
                continue
            inputs = {role: renamed.get(role, given) for role, given in node.inputs.items()}
            own = {**node.settings, **({"as_of": isoformat(moment)} if "as_of" in node.settings else {})}
            if node.kind == "train":
                code = {**node.code, "backtest": engine_digest(("backtest/training.py",))}
                node = msgspec.structs.replace(node, kind="backtest.train", code=code)  # noqa: PLW2901
            if node.name == "baseline":
                inputs["after"] = f"train@{name}"  # which has prepared the same rows, in the child that is free then
            nodes.append(
                msgspec.structs.replace(node, name=f"{node.name}@{name}", inputs=inputs, settings=own, title=node.title)
            )
        return nodes

    def rulings(self) -> list[PlanNode]:
        """Plan the gates of each challenger against the models of the moments before: what `always` asks, and others with it.

        Once a challenger was refused the next one is held to an older model; policies ask the rest for themselves. With a
        limit on what is trained there is no such chain, and each replay asks for everything.
        """
        return [self._ruling(index, champions) for index, champions in self._champions().items()]

    def _champions(self) -> dict[int, list[int]]:
        """Give each challenger whose rulings are a node, and the models that it is held to."""
        if not self._replayed or self.wanted.trained is not None:
            return {}
        known = self.all_trained()
        backs = range(1, _BACK + 1)
        found = {index: [index - back for back in backs if index - back in known] for index in sorted(known)}
        return {index: champions for index, champions in found.items() if champions}

    def _ruling(self, index: int, champions: list[int]) -> PlanNode:
        inputs = {"rows": "features", **self._sources, **self._models_of([*champions, index])}
        settings = {**self._gates, "challenger": index, "champions": champions}
        code = _code(_RULING_CODE) | _components(self.planned.declared.catalogue, self._judges)
        name, before = self._names[index], ", ".join(self._names[champion] for champion in champions)
        return PlanNode(
            name=f"ruling@{name}",
            kind="backtest.rule",
            inputs=inputs,
            settings=settings,
            code=code,
            title=f"gates: {name} against {before}",
        )

    def references(self) -> list[PlanNode]:
        """Plan what the features of each model's training rows look like, when monitors of some policy compare with them."""
        watched = [policy for policy in self.wanted.policies if self._refers(policy)]
        moments = frozenset().union(*(self._trained(policy) for policy in watched))
        return [self._reference(index) for index in sorted(moments)]

    def _refers(self, policy: Policy) -> bool:
        return self._spec.watch.reference == "training" and reads_profiles(
            item["kind"] for item in policy.monitors.values()
        )

    def _reference(self, index: int) -> PlanNode:
        name, train = self._names[index], self.planned.plan.node("train")
        settings = {"program": train.settings["program"], "chunks": self._spec.watch.reference_chunks, "index": index}
        return PlanNode(
            name=f"reference@{name}",
            kind="backtest.refer",
            inputs={"rows": "features", f"cut.{index}": f"cut@{name}"},
            settings=settings,
            code=_code(_REFERENCE_CODE),
            title=f"reference: {name}",
        )

    def replay(self, policy: Policy) -> PlanNode:
        """Plan the replay of one policy: all that decides it is in the settings, so equal policies are one node's work."""
        spec, catalogue = self._spec, self.planned.declared.catalogue
        trained = sorted(self._trained(policy))
        inputs = {"rows": "features", **self._sources, **self._models_of(trained)}
        if policy.counts_content:
            inputs["content"] = CONTENT
        if policy.triggers:
            names = [self._names[index] for index in self._champions()]
            inputs |= {f"ruling.{name}": f"ruling@{name}" for name in names}
        if self._refers(policy):
            inputs |= {f"reference.{index}": f"reference@{self._names[index]}" for index in trained}
        settings: dict[str, Any] = {
            **self._gates,
            "pipeline": spec.name,
            "moments": self._moments(),
            "end": isoformat(self.wanted.moments.end),
            "declared": msgspec.to_builtins(_loop_declared(spec, policy)),
            "monitors": dict(policy.monitors),
            "watch": identity(spec.watch),
        }
        named: dict[Role, Collection[str]] = {
            **self._judges,
            "trigger": [item["kind"] for item in policy.triggers.values()],
            "monitor": [item["kind"] for item in policy.monitors.values()],
        }
        return PlanNode(
            name=f"replay.{policy.name}",
            kind="backtest.replay",
            inputs=inputs,
            settings=settings,
            code=_code(_REPLAY_CODE) | _components(catalogue, named),
            title=f"replay: {policy.name}",
            timeout_seconds=86_400.0,
        )

    @property
    def _replayed(self) -> tuple[str, ...]:
        return gates_of(self._spec, self.wanted.gates)[0]

    @property
    def _sources(self) -> dict[str, str]:
        """Give the sources whose audits gates look at."""
        gate = self.planned.plan.node("gate")
        return (
            {role: name for role, name in gate.inputs.items() if role.startswith("source.")} if self._replayed else {}
        )

    @property
    def _gates(self) -> dict[str, Any]:
        """Give what decides a ruling."""
        spec = self._spec
        gates = {name: spec.gates[name] for name in self._replayed}
        return {
            "gates": {
                name: {"kind": gate.kind, "params": identity(gate.params), "severity": gate.severity}
                for name, gate in gates.items()
            },
            "columns": sorted({column for gate in gates.values() for column in _columns(gate.params)}),
            "gated": self.wanted.gates != "none",
            "evaluate": identity(spec.evaluate),
            "seed": spec.evaluate.seed,
        }

    @property
    def _judges(self) -> dict[Role, Collection[str]]:
        """Name the components that a ruling calls."""
        spec = self._spec
        return {
            "gate": [spec.gates[name].kind for name in self._replayed],
            "trainer": [spec.train.kind, *([spec.baseline.kind] if spec.baseline else [])],
        }

    def _models_of(self, trained: Sequence[int]) -> dict[str, str]:
        found: dict[str, str] = {}
        for index in trained:
            for node in self.model(index):
                found[f"{node.name.split('@', 1)[0]}.{index}"] = node.name
        return found

    def measure(self) -> PlanNode:
        """Plan the comparison of all policies on the same rows."""
        spec = self._spec
        _, primary = choose_metrics(spec.train.task, spec.evaluate)
        inputs = {"rows": "features", "model": f"train@{self._names[0]}"}
        inputs |= {f"replay.{policy.name}": f"replay.{policy.name}" for policy in self.wanted.policies}
        settings: dict[str, Json] = {
            "moments": list(self._moments()),
            "end": isoformat(self.wanted.moments.end),
            "metric": self.wanted.metric or primary,
            "resamples": spec.evaluate.resamples,
            "level": spec.evaluate.level,
            "seed": spec.evaluate.seed,
            "cluster": spec.evaluate.cluster,
        }
        code = _code(_MEASURE_CODE) | _components(self.planned.declared.catalogue, {"trainer": [spec.train.kind]})
        return PlanNode(
            name=MEASURE, kind="backtest.measure", inputs=inputs, settings=settings, code=code, title="regret"
        )


def _loop_declared(spec: PipelineSpec, policy: Policy) -> LoopDeclared:
    return LoopDeclared(
        stamp="",
        name=spec.name,
        model=spec.registry.model or spec.name,
        alias=spec.registry.alias,
        plugins=(),
        triggers={name: dict(item) for name, item in policy.triggers.items()},
        sources={},
        retrain=policy.retrain,
        stores=StoresSpec(),
        maturity=spec.label.maturity,
        watch=None,
    )
