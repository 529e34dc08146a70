"""From declared features to single ones: `{agg}` and `{window}` in a name are expanded, collisions refused."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from engine.features.problems import Problems
from engine.features.steps import EVENT_TIME
from engine.spec.aggregates import (
    PARAMETERISED,
    AggregateColumn,
    AggregateWith,
    aggregates_of,
    columns_of_aggregate,
)
from engine.spec.features import FeatureSpec, WindowFeature

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Single:
    """One feature: its expanded name, the path of its declaration, and for a window its one aggregate and length."""

    name: str
    path: str
    spec: FeatureSpec
    column: AggregateColumn | None = None
    window: str = ""


def as_tuple(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """One or several, as several."""
    return (value,) if isinstance(value, str) else tuple(value)


def expand(features: Mapping[str, FeatureSpec], taken: Iterable[str], problems: Problems) -> tuple[Single, ...]:
    """Expand all features in order of declaration; a name in `taken` (request fields) or used twice is a problem."""
    seen: dict[str, str] = dict.fromkeys(taken, "a request field")
    kept = []
    for declared, spec in features.items():
        for single in _expand_one(declared, spec, problems):
            if single.name == EVENT_TIME:
                problems.add(single.path, f"`{EVENT_TIME}` is the time of the row; call the feature something else")
            elif not _NAME.fullmatch(single.name):
                problems.add(single.path, "a feature's name has letters, digits and _ only", value=single.name)
            elif single.name in seen:
                problems.add(single.path, f"`{single.name}` is already {seen[single.name]}", hint="rename one of them")
            else:
                seen[single.name] = f"a feature (`{single.path}`)"
                kept.append(single)
    return tuple(kept)


def _expand_one(declared: str, spec: FeatureSpec, problems: Problems) -> list[Single]:
    path = f"features.{declared}"
    used = _PLACEHOLDER.findall(declared)
    if not isinstance(spec, WindowFeature):
        if used:
            problems.add(path, "only a feature with `agg` and `window` has {agg} or {window} in its name")
            return []
        return [Single(declared, path, spec)]
    unknown = [name for name in used if name not in {"agg", "window"}]
    if unknown:
        problems.unknown(path, "placeholder", unknown[0], ("agg", "window"))
        return []
    columns, windows = _columns(path, spec, problems), as_tuple(spec.window)
    labels = tuple(dict.fromkeys(column.label for column in columns))
    for name, entries, values in (("agg", aggregates_of(spec.agg), labels), ("window", windows, windows)):
        if not entries:
            problems.add(f"{path}.{name}", "the list is empty")
        if len(values) > 1 and name not in used:
            problems.add(
                path, f"several values of `{name}` need {{{name}}} in the name", hint=f"{declared}_{{{name}}}: …"
            )
            return []
    return [
        Single(
            declared.replace("{agg}", column.label).replace("{window}", window) + column.suffix,
            path,
            spec,
            column,
            window,
        )
        for column in columns
        for window in windows
    ]


def _columns(path: str, spec: WindowFeature, problems: Problems) -> list[AggregateColumn]:
    """The single columns of all aggregates; a mapping without exactly one key is a problem, and so are bad edges."""
    entries = aggregates_of(spec.agg)
    columns: list[AggregateColumn] = []
    for index, entry in enumerate(entries):
        place = f"{path}.agg.{index}" if isinstance(spec.agg, tuple) else f"{path}.agg"
        if isinstance(entry, AggregateWith) and len(entry.given) != 1:
            found = " and ".join(entry.given) or "none"
            problems.add(
                place,
                f"an aggregate with parameters is a mapping of exactly one key; found: {found}",
                hint=f"one of {', '.join(PARAMETERISED)}, as in {{quantile: {{q: 0.9}}}}; several stand in a list",
            )
            continue
        if isinstance(entry, AggregateWith) and entry.histogram is not None and not _rising(entry.histogram.edges):
            edges = ", ".join(f"{edge:g}" for edge in entry.histogram.edges)
            problems.add(f"{place}.histogram.edges", "edges must rise, each above the one before", value=edges)
            continue
        columns += columns_of_aggregate(entry)
    return columns


def _rising(edges: tuple[float, ...]) -> bool:
    return all(math.isfinite(edge) for edge in edges) and all(a < b for a, b in pairwise(edges))
