"""From declared features to single ones: `{agg}` and `{window}` in a name are expanded, collisions refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.features.problems import Problems
from engine.features.steps import EVENT_TIME
from engine.spec.features import EncodedFeature, ExpressionFeature, FeatureSpec, LookupFeature, WindowFeature

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Single:
    """One feature: its expanded name, the path of its declaration, and for a window its one aggregate and length."""

    name: str
    path: str
    spec: FeatureSpec
    agg: str = ""
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
    match spec:
        case WindowFeature():
            aggregates, windows = as_tuple(spec.agg), as_tuple(spec.window)
        case ExpressionFeature() | LookupFeature() | EncodedFeature():
            if used:
                problems.add(path, "only a feature with `agg` and `window` has {agg} or {window} in its name")
                return []
            return [Single(declared, path, spec)]
    unknown = [name for name in used if name not in {"agg", "window"}]
    if unknown:
        problems.unknown(path, "placeholder", unknown[0], ("agg", "window"))
        return []
    for name, values in (("agg", aggregates), ("window", windows)):
        if not values:
            problems.add(f"{path}.{name}", "the list is empty")
        if len(values) > 1 and name not in used:
            problems.add(
                path, f"several values of `{name}` need {{{name}}} in the name", hint=f"{declared}_{{{name}}}: …"
            )
            return []
    return [
        Single(declared.replace("{agg}", agg).replace("{window}", window), path, spec, agg, window)
        for agg in aggregates
        for window in windows
    ]
