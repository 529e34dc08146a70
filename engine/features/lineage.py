"""Where a feature comes from and who uses it, from the declaration alone. Pure; no data library.

Enters the compiled program and the pipeline's spec. Called by `engine features`, the planner (for the model card) and
`describe`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

import msgspec

from engine.features.expression import columns_of
from engine.features.steps import AnyStep, Encoded, FeatureProgram, Formula, Lookup, Window
from engine.spec import PipelineSpec, identity
from engine.spec.features import FeatureSpec, expanded_names

Personal: TypeAlias = Literal["tagged", "derived"]
PII = "pii"
"""The tag of a feature, or a source, that holds personal data."""
_NOT_USERS = frozenset({"name", "features", "sources", "spine", "label", "tests"})


def declarations(features: Mapping[str, FeatureSpec]) -> dict[str, tuple[str, FeatureSpec]]:
    """Each expanded feature with the name and the spec that it was declared by."""
    return {name: (declared, spec) for declared, spec in features.items() for name in expanded_names(declared, spec)}


def reads(step: AnyStep) -> tuple[str, ...]:
    """The request fields and features that a step reads, sorted; a request that counts in its window is read as well."""
    match step:
        case Formula():
            found = set(columns_of(step.expr))
        case Encoded():
            found = {step.column}
        case Lookup():
            found = {target for _, target in step.on}
        case Window():
            found = {target for _, target in step.on}
            if step.include_request:
                found |= {column for tree in (step.of, step.where) if tree is not None for column in columns_of(tree)}
    return tuple(sorted(found))


def upstream(program: FeatureProgram, name: str) -> tuple[str, ...]:
    """The features that one reads, directly or through others, in dependency order."""
    needed, pending = set[str](), [name]
    while pending:
        new = {item for item in reads(program.by_name[pending.pop()]) if item in program.by_name} - needed
        needed |= new
        pending += new
    return tuple(step.name for step in program.steps if step.name in needed)


def downstream(program: FeatureProgram, name: str) -> tuple[str, ...]:
    """The features that read one, directly or through others, in dependency order."""
    return tuple(step.name for step in program.steps if name in upstream(program, step.name))


def sources_behind(program: FeatureProgram, name: str) -> tuple[str, ...]:
    """The sources that a feature and all that it reads come from, sorted."""
    steps = (program.by_name[item] for item in (*upstream(program, name), name))
    return tuple(sorted({step.source for step in steps if isinstance(step, Lookup | Window)}))


def subprogram(program: FeatureProgram, name: str) -> FeatureProgram:
    """The program of one feature and what it reads, without a label; an encoded one stands for what it encodes."""
    step = program.by_name[name]
    wanted = {*upstream(program, name)} | (set() if isinstance(step, Encoded) else {name})
    steps = tuple(item for item in program.steps if item.name in wanted)
    return msgspec.structs.replace(program, label=None, steps=steps, order=tuple(item.name for item in steps))


def personal(program: FeatureProgram, spec: PipelineSpec) -> dict[str, Personal]:
    """The features that hold personal data: tagged `pii`, or derived from such a feature or source."""
    declared = declarations(spec.features)
    tagged = {name for name in program.order if PII in declared[name][1].tags}
    sources = {name for name, source in spec.sources.items() if PII in source.tags}
    found: dict[str, Personal] = {}
    for name in program.order:
        if name in tagged:
            found[name] = "tagged"
        elif tagged & set(upstream(program, name)) or sources & set(sources_behind(program, name)):
            found[name] = "derived"
    return found


def mentions(spec: PipelineSpec, name: str) -> tuple[str, ...]:
    """The paths outside the feature language where a feature is named: slices, monitors, columns of the model."""
    document: Any = identity(spec)
    used = {key: value for key, value in document.items() if key not in _NOT_USERS}
    return tuple(path for path, text in _texts("", used) if text == name or ("*" in text and fnmatchcase(name, text)))


def covering(spec: PipelineSpec, name: str) -> tuple[str, ...]:
    """The cases under `tests` that expect a value of a feature."""
    return tuple(case for case, test in spec.tests.items() if name in test.expect)


def _texts(path: str, value: Any) -> Iterator[tuple[str, str]]:
    items: Iterable[tuple[Any, Any]] = ()
    match value:
        case str():
            yield path, value
        case dict():
            items = value.items()
        case list():
            items = enumerate(value)
    for key, item in items:
        yield from _texts(f"{path}.{key}" if path else str(key), item)
