"""The logical plan: what has to happen, before anything is known of data, code or champion.

`build_logical(spec)` folds a tuple of passes over the declaration. Each pass adds or rewrites nodes and is pure; reading
`PASSES` from top to bottom is reading what a pipeline is. `compile` later adds what decides keys beyond the declaration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import msgspec

from engine.errors import ConfigError, Problem
from engine.features.cases import check_cases
from engine.features.lineage import personal
from engine.features.program import compile_program
from engine.keys import Json
from engine.plan.analyses import add_analyses
from engine.plan.logical_nodes import Components, LogicalNode, LogicalPlan, training_node
from engine.plan.probes import READS_ROWS, READS_SOURCES, compile_probes
from engine.spec import EvaluateSpec, PipelineSpec, identity

Pass: TypeAlias = Callable[[LogicalPlan], LogicalPlan]


def build_logical(spec: PipelineSpec) -> LogicalPlan:
    """Compile the features and fold the passes; raises `ConfigError` with every mistake in the feature program."""
    compiled = compile_program(spec.features, spec.spine, spec.label, spec.sources)
    check_cases(spec.tests, compiled)
    check_rollout(spec)
    pii = dict(personal(compiled.program, spec))
    return fold(LogicalPlan(spec, compiled, compiled.program.to_json(), pii))


def fold(plan: LogicalPlan) -> LogicalPlan:
    """Fold the passes over a plan that has no nodes yet; raises `ConfigError` for columns that do not exist."""
    for add in PASSES:
        plan = add(plan)
    return plan


def fold_again(plan: LogicalPlan, spec: PipelineSpec) -> LogicalPlan:
    """Give the plan of a spec whose sources and feature program are the same as this plan's: its first nodes stay."""
    plan = replace(plan, spec=spec, nodes=tuple(node for node in plan.nodes if node.kind in {"ingest", "checkout"}))
    for add in PASSES[1:]:
        plan = add(plan)
    return plan


def check_rollout(spec: PipelineSpec) -> None:
    """Refuse a rollout whose entity callers do not send; raises `ConfigError`."""
    fields = spec.rollout.fields if spec.rollout is not None else ()
    unknown = [name for name in fields if name not in spec.spine.request]
    if spec.rollout is not None:
        fitting = {"binary": ("brier", "log_loss"), "regression": ("squared_error", "absolute_error")}.get(
            spec.train.task, ()
        )
        if spec.rollout.loss not in fitting:
            words = f"a {spec.train.task} model is not compared by this"
            raise ConfigError(
                [Problem("rollout.loss", words, value=spec.rollout.loss, allowed=fitting or ("no rollout",))]
            )
    if unknown:
        words = "not a request field, and only what a caller sends can decide who answers"
        raise ConfigError(
            [Problem("rollout.entity", words, value=name, allowed=tuple(spec.spine.request)) for name in unknown]
        )


def ingest_sources(plan: LogicalPlan) -> LogicalPlan:
    """Bring each source that the program reads, and each that such a source refers to, to a validated snapshot."""
    spec = plan.spec
    wanted = [name for name in spec.sources if name in _needed_sources(plan)]
    return plan.plus(*(_ingest(plan, name) for name in sorted(wanted, key=lambda name: bool(_references(spec, name)))))


def ingest_unread(plan: LogicalPlan) -> LogicalPlan:
    """Add the declared sources that nothing in the plan reads: data is versioned before a feature asks for it."""
    known = set(_ingests(plan))
    return plan.plus(*(_ingest(plan, name) for name in plan.spec.sources if f"ingest.{name}" not in known))


def compute_features(plan: LogicalPlan) -> LogicalPlan:
    """Evaluate the feature program over the spine, with labels."""
    inputs = {f"source.{name}": f"ingest.{name}" for name in plan.program.source_names}
    settings = {"program": plan.document, "as_of": plan.spec.as_of}
    count = len(plan.program.feature_names)
    return plan.plus(LogicalNode("features", "features", inputs, settings, title=f"{count} features, point in time"))


def split_rows(plan: LogicalPlan) -> LogicalPlan:
    """Give every labelled row to training, validation or test."""
    split = plan.spec.split
    settings = {"component": split.kind, "params": identity(split.params), "seed": plan.spec.train.seed}
    node = LogicalNode("split", "split", {"rows": "features"}, settings, (("splitter", split.kind),), title=split.kind)
    return plan.plus(node)


def train_model(plan: LogicalPlan) -> LogicalPlan:
    """Fit the model on the training rows, stopping by the validation rows."""
    return plan.plus(
        training_node(plan, "train", plan.spec.train.kind, identity(plan.spec.train.params), plan.spec.train.seed)
    )


def train_baseline(plan: LogicalPlan) -> LogicalPlan:
    """Fit the simple model that the real one has to beat."""
    baseline = plan.spec.baseline
    if baseline is None:
        return plan
    return plan.plus(training_node(plan, "baseline", baseline.kind, identity(baseline.params), baseline.seed))


def tune_model(plan: LogicalPlan, metrics: tuple[str, ...]) -> LogicalPlan:
    """Measure the model on the validation rows, for a sweep to choose by; no pass of an ordinary run."""
    settings: dict[str, Json] = {"metrics": list(metrics)}
    components: Components = (("trainer", plan.spec.train.kind),)
    inputs = {"rows": "features", "split": "split", "model": "train"}
    return plan.plus(LogicalNode("tune", "tune", inputs, settings, components, title=", ".join(metrics)))


def evaluate_models(plan: LogicalPlan) -> LogicalPlan:
    """Score challenger, baseline and champion on the same test rows."""
    models = {"model": "train"} | ({"baseline": "baseline"} if plan.spec.baseline else {})
    sources = {f"source.{name}": f"ingest.{name}" for name in plan.program.source_names}
    settings = {"evaluate": identity(plan.spec.evaluate), "task": plan.spec.train.task, "as_of": plan.spec.as_of}
    inputs = {"rows": "features", "split": "split", **models, **sources}
    trainers = [plan.spec.train.kind] + ([plan.spec.baseline.kind] if plan.spec.baseline else [])
    components: Components = tuple(("trainer", kind) for kind in dict.fromkeys(trainers))
    task, metrics = plan.spec.train.task, plan.spec.evaluate.metrics
    own = metrics == EvaluateSpec().metrics and task != "binary"  # the defaults are those of a binary task
    title = f"the usual metrics of {task}" if own else ", ".join(metrics)
    return plan.plus(LogicalNode("evaluate", "evaluate", inputs, settings, components, title=title))


def probe_model(plan: LogicalPlan) -> LogicalPlan:
    """Gather what the declared gates demand beyond the evaluation; raises `ConfigError` for what cannot be asked."""
    asked, problems = compile_probes(plan.spec, plan.program)
    if problems:
        raise ConfigError(problems)
    sources = {f"source.{name}": f"ingest.{name}" for name in plan.program.source_names}
    for probe, questions in asked.items():
        inputs = {"model": "train"}
        inputs |= {"rows": "features", "split": "split"} if probe in READS_ROWS else {}
        inputs |= sources if probe in READS_SOURCES else {}
        settings: dict[str, Json] = {"asked": questions, "task": plan.spec.train.task}
        settings |= {"as_of": plan.spec.as_of} if probe in READS_SOURCES else {}
        components: Components = (("trainer", plan.spec.train.kind),)
        name = f"probe.{probe}"
        node = LogicalNode(name, name, inputs, settings, components, title=", ".join(questions))  # type: ignore[arg-type]
        plan = plan.plus(node)
    return plan


def analyse_model(plan: LogicalPlan) -> LogicalPlan:
    """Look at the model in every way that is declared for every run; the others are for `engine analyse`."""
    return add_analyses(plan, [name for name, item in plan.spec.analysis.items() if item.when == "run"])


def judge(plan: LogicalPlan) -> LogicalPlan:
    """Put the evidence before every gate."""
    spec = plan.spec
    sources = {f"source.{name.removeprefix('ingest.')}": name for name in _ingests(plan)}
    probes = {node.name: node.name for node in plan.nodes if node.name.startswith("probe.")}
    gates: dict[str, Json] = {
        name: {"kind": gate.kind, "params": identity(gate.params), "severity": gate.severity}
        for name, gate in spec.gates.items()
    }
    settings: dict[str, Json] = {"gates": gates, "task": spec.train.task, "seed": spec.evaluate.seed}
    components: Components = tuple(("gate", kind) for kind in dict.fromkeys(gate.kind for gate in spec.gates.values()))
    node = LogicalNode(
        "gate", "gate", {"evaluation": "evaluate", **probes, **sources}, settings, components, title=", ".join(gates)
    )
    return plan.plus(node)


def package_model(plan: LogicalPlan) -> LogicalPlan:
    """Put together all that is needed to serve, audit and reproduce the model."""
    sources = {f"source.{name.removeprefix('ingest.')}": name for name in _ingests(plan)}
    inputs = {
        "rows": "features",
        "split": "split",
        "model": "train",
        "evaluation": "evaluate",
        "gate": "gate",
        **sources,
        **{node.name: node.name for node in plan.nodes if node.kind == "analysis"},
    }
    settings: dict[str, Json] = {
        "pipeline": plan.spec.name,
        "task": plan.spec.train.task,
        "sources": {name: plan.sources[name].to_json() for name in plan.program.source_names},
    }
    components: Components = (("trainer", plan.spec.train.kind),)
    return plan.plus(LogicalNode("package", "package", inputs, settings, components, title="model package"))


def promote_model(plan: LogicalPlan) -> LogicalPlan:
    """Register the package and move the alias, if the verdict says so."""
    registry = plan.spec.registry
    settings: dict[str, Json] = {
        "model": registry.model or plan.spec.name,
        "alias": registry.alias,
        "promote": registry.promote,
        "rollout": None if plan.spec.rollout is None else identity(plan.spec.rollout),
        "card": {
            **msgspec.structs.asdict(plan.spec.card),
            "owner": plan.spec.owner,
            "doc": plan.spec.doc,
            "pii": dict(plan.pii),
        },
    }
    node = LogicalNode(
        "promote",
        "promote",
        {"package": "package", "gate": "gate", "model": "train"},
        settings,
        effect=True,
        title=f"{settings['model']}@{registry.alias}",
    )
    return plan.plus(node)


PASSES: tuple[Pass, ...] = (
    ingest_sources,
    compute_features,
    split_rows,
    train_model,
    train_baseline,
    evaluate_models,
    probe_model,
    judge,
    analyse_model,
    package_model,
    promote_model,
)


def _needed_sources(plan: LogicalPlan) -> frozenset[str]:
    needed = set(plan.program.source_names)
    for name in tuple(needed):
        needed |= _references(plan.spec, name)
    return frozenset(needed)


def _references(spec: PipelineSpec, name: str) -> frozenset[str]:
    """Sources that this one's expectations refer to."""
    named = (expectation.references for expectation in spec.sources[name].expect if expectation.references)
    return frozenset(reference.split(".")[0] for reference in named)


def _ingest(plan: LogicalPlan, name: str) -> LogicalNode:
    source = plan.spec.sources[name]
    settings = {"source": name, "spec": identity(source), "program": plan.sources[name].to_json()}
    inputs = {f"reference.{other}": f"ingest.{other}" for other in sorted(_references(plan.spec, name))}
    title = f"{source.kind} into {source.repository}@{source.branch}"
    kind = "ingest" if source.ref is None else "checkout"
    return LogicalNode(f"ingest.{name}", kind, inputs, settings, (("source", source.kind),), title=title)


def _ingests(plan: LogicalPlan) -> tuple[str, ...]:
    return tuple(node.name for node in plan.nodes if node.kind in {"ingest", "checkout"})


__all__ = ["LogicalNode", "LogicalPlan", "build_logical", "fold", "fold_again", "tune_model"]
