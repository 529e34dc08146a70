"""Which features the model sees: names and globs against the program's numeric features."""

from __future__ import annotations

from fnmatch import fnmatchcase

from engine.errors import ConfigError, Problem
from engine.features.program import FeatureProgram
from engine.features.steps import NUMERIC
from engine.spec import TrainSpec


def choose_columns(program: FeatureProgram, train: TrainSpec) -> tuple[str, ...]:
    """Give the model's columns in the program's order; raises `ConfigError` for a pattern that selects nothing numeric."""
    types = program.output_types
    problems = [
        Problem(f"train.{key}", "matches no feature", value=pattern, allowed=tuple(types))
        for key, patterns in (("features", train.features), ("exclude", train.exclude))
        for pattern in patterns
        if not any(fnmatchcase(name, pattern) for name in types)
    ]
    if program.label is not None and program.label.type == "str" and train.task != "multiclass":
        hint = "set train.task=multiclass, or make the label a number"
        problems.append(
            Problem("label.expr", f"gives text, and the task {train.task} needs a number", value=train.task, hint=hint)
        )
    wanted = train.features or ("*",)
    named = [name for name in types if name in wanted and types[name] not in NUMERIC]
    problems += [
        Problem(
            "train.features",
            f"`{name}` is {types[name]}, and a model sees numbers",
            value=name,
            hint=f"add a feature with `encode: {name}`",
        )
        for name in named
    ]
    chosen = tuple(
        name
        for name in types
        if types[name] in NUMERIC and _matches(name, wanted) and not _matches(name, train.exclude)
    )
    if not chosen and not problems:
        problems.append(
            Problem("features", "no numeric feature is left for the model", hint="declare one, or relax train.exclude")
        )
    if problems:
        raise ConfigError(problems)
    return chosen


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
