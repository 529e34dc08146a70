"""Probes: a node for each kind of evidence that some declared gate demands, and none for what nobody asks.

Enters: gates with their parameters, and the compiled program. Leaves: logical nodes, and problems with their places.
Called by `logical`. What a probe is asked is compiled here, so that a mistake in a behaviour test is found by
`engine check`; what it answers is computed by `engine.nodes.probe_*`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from engine.components import Params
from engine.errors import Problem
from engine.features.expression import Expression, to_json
from engine.features.problems import Problems
from engine.features.program import EVENT_TIME, Encoded, FeatureProgram
from engine.features.steps import NUMERIC
from engine.keys import Json
from engine.spec import PipelineSpec, identity
from engine.spec.probes import BehaviourProbe, ColumnsProbe, LeakageProbe, Probe

Compile: TypeAlias = Callable[[Any, FeatureProgram, str, Problems], Json]


def demanded(spec: PipelineSpec) -> dict[str, dict[str, Probe]]:
    """Give what each probe is asked, by probe and gate; sorted, so that the order of gates changes no key."""
    found: dict[str, dict[str, Probe]] = {}
    for name, gate in sorted(spec.gates.items()):
        params = gate.params
        for probe, asked in params.demands().items() if isinstance(params, Params) else ():
            found.setdefault(probe, {})[name] = asked
    return dict(sorted(found.items()))


def compile_probes(spec: PipelineSpec, program: FeatureProgram) -> tuple[dict[str, Json], list[Problem]]:
    """Give the settings of every demanded probe, and every mistake in them."""
    problems = Problems()
    settings: dict[str, Json] = {}
    for probe, asked in demanded(spec).items():
        if probe not in PROBES:
            for gate in asked:
                problems.unknown(f"gates.{gate}", "probe", probe, tuple(PROBES))
            continue
        settings[probe] = {
            gate: PROBES[probe](what, program, f"gates.{gate}", problems) for gate, what in asked.items()
        }
    return settings, problems.found


def known_columns(program: FeatureProgram) -> dict[str, str]:
    """Give what a row is told by: the request fields, its time, and the computed features, with their types."""
    computed = {name: program.output_types[name] for name in program.computed_names}
    return {**program.spine.request, EVENT_TIME: "timestamp", **computed}


def _behaviour(asked: BehaviourProbe, program: FeatureProgram, path: str, problems: Problems) -> Json:
    columns = known_columns(program)
    where = problems.typed(f"{path}.where", asked.where, columns, want="bool") if asked.where else None
    change = {name: _change(name, text, program, (path, problems)) for name, text in asked.change.items()}
    for index, row in enumerate(asked.rows):
        for field in row:
            if field not in {**program.spine.request, EVENT_TIME: ""}:
                problems.unknown(f"{path}.rows.{index}", "request field", field, (*program.spine.request, EVENT_TIME))
        if row.get(EVENT_TIME) is None:
            problems.add(f"{path}.rows.{index}", f"a request has an `{EVENT_TIME}`, as in 2013-07-01T12:00:00Z")
    kept: dict[str, Any] = dict(identity(asked))  # type: ignore[arg-type]
    return kept | {"where": to_json(where[0]) if where else None, "change": change}


def _change(name: str, text: str, program: FeatureProgram, where: tuple[str, Problems]) -> Json:
    path, problems = where
    columns = known_columns(program)
    if name not in columns:
        problems.unknown(f"{path}.change", "request field or computed feature", name, tuple(columns))
        return None
    typed = problems.typed(f"{path}.change.{name}", text, columns)
    if typed is None:
        return None
    tree: Expression = typed[0]
    if typed[1] != columns[name] and not {typed[1], columns[name]} <= NUMERIC:
        problems.add(f"{path}.change.{name}", f"gives {typed[1]}, and `{name}` is {columns[name]}", value=text)
    return to_json(tree)


def _leakage(asked: LeakageProbe, program: FeatureProgram, path: str, problems: Problems) -> Json:
    if asked.entity is not None:
        _known(asked.entity, program, f"{path}.entity", problems)
    return identity(asked)


def _columns(asked: ColumnsProbe, program: FeatureProgram, path: str, problems: Problems) -> Json:
    for name in asked.names:
        _known(name, program, path, problems)
    return identity(asked)


def _known(name: str, program: FeatureProgram, path: str, problems: Problems) -> None:
    if name not in known_columns(program):
        encoded = isinstance(program.by_name.get(name), Encoded)
        known = tuple(known_columns(program))
        if encoded:
            problems.add(path, f"`{name}` is fitted by the model: name the column that it encodes", value=name)
        else:
            problems.unknown(path, "request field or feature", name, known)


def _plain(asked: Probe, _program: FeatureProgram, _path: str, _problems: Problems) -> Json:
    return identity(asked)


# By name: how what is asked is checked and compiled.
PROBES: Mapping[str, Compile] = {
    "behaviour": _behaviour,
    "leakage": _leakage,
    "training": _plain,
    "latency": _plain,
    "size": _plain,
    "columns": _columns,
    "parity": _plain,
}
# Which probes evaluate features, and so read the sources; which look at rows; all look at the model.
READS_SOURCES = frozenset({"behaviour", "leakage", "parity"})
READS_ROWS = frozenset({"behaviour", "leakage", "training", "latency", "columns", "parity"})
