"""Judging leaks: each check on its own, the worst of their verdicts together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.contracts import Evidence

from .behaviour import answer_of, not_measured
from .judging import Findings, together
from .probing import LeakageParams


def judge_leakage(params: LeakageParams, evidence: Evidence, gate: str) -> Findings:
    """Judge every check that was asked for; one that left no answer is inconclusive."""
    found = answer_of(evidence, "leakage", gate)
    if found is None:
        return not_measured("leakage", f"no leak: {', '.join(params.checks)}")
    parts: dict[str, Findings] = {
        check: _CHECKS[check](params, found[check]) if check in found else not_measured("leakage", check)
        for check in dict.fromkeys(params.checks)
    }
    return together(parts)


def _duplicates(params: LeakageParams, found: Mapping[str, Any]) -> Findings:
    required = (
        f"at most {params.max_duplicates:g} of the test rows are training rows, {params.max_alike:g} are like one"
    )
    rows = found["rows"]
    if rows == 0:
        return Findings("fail", "0 test rows", required, "no test row, so nothing is shown", dict(found))
    share = found["same_moment"] / rows
    excess = max(0.0, found["alike"] / rows - found["usual"])
    observed = (
        f"{found['same_moment']} of {rows} test rows are training rows under another id, {found['alike']} are like one"
    )
    if share > params.max_duplicates:
        reason = "the same events, with the same moment, request, features and label, are on both sides of the split"
        return Findings("fail", observed, required, reason, dict(found))
    if excess > params.max_alike:
        reason = f"{excess:.1%} more test rows repeat a training row than training rows repeat one another"
        return Findings("fail", observed, required, reason, dict(found))
    return Findings("pass", observed, required, "no event is on both sides", dict(found))


def _entities(params: LeakageParams, found: Mapping[str, Any]) -> Findings:
    required = f"at most {params.max_entity_overlap:g} of the test rows have a {params.entity} that trained"
    rows = found["rows"]
    if rows == 0 or found["shared"] is None:
        return Findings("inconclusive", "0 test rows", required, "nothing to compare", dict(found))
    share = found["shared"] / rows
    observed = f"{found['shared']} of {rows} test rows ({share:.1%})"
    if share > params.max_entity_overlap:
        reason = f"known from training: {', '.join(map(str, found['examples']))}; split by group to keep them apart"
        return Findings("fail", observed, required, reason, dict(found))
    return Findings("pass", observed, required, "entities are on one side each", dict(found))


def _future(params: LeakageParams, found: Mapping[str, Any]) -> Findings:
    required = "features are the same bits from what was known at the row's time alone"
    if found["rows"] == 0:
        return Findings("fail", "0 rows", required, "no row to recompute", dict(found))
    observed = f"{found['features']} features of {found['rows']} rows recomputed, {len(found['differing'])} differ"
    wrong = sorted(set(found["differing"]) - set(params.allow))
    if wrong:
        return Findings("fail", observed, required, f"know the future: {', '.join(wrong)}", dict(found))
    timeless = sorted({name for names in found["timeless"].values() for name in names} - set(params.allow))
    more = f"; from sources without time, so not checked: {', '.join(timeless)}" if timeless else ""
    return Findings("pass", observed, required, f"no feature knows the future{more}", dict(found))


def _proxies(params: LeakageParams, found: Mapping[str, Any]) -> Findings:
    required = f"no column alone ranks the label better than {params.max_single:g}"
    strongest = [item for item in found["strongest"] if item["column"] not in params.allow]
    if not strongest:
        reason = "no column could be measured: too few rows, or a constant label"
        return Findings("inconclusive", f"{found['measured']} columns measured", required, reason, dict(found))
    worst = strongest[0]
    observed = f"{worst['column']}: {worst['measure']} {worst['value']:.4f} ({worst['low']:.4f} to {worst['high']:.4f}), n = {worst['n']}"
    over = [item["column"] for item in strongest if item["value"] > params.max_single]
    if over:
        reason = f"{', '.join(over)} nearly give the label away: are they known at prediction time?"
        return Findings("fail", observed, required, reason, dict(found))
    unsure = [item["column"] for item in strongest if item["high"] > params.max_single]
    if unsure:
        return Findings("inconclusive", observed, required, f"too few rows to tell of {', '.join(unsure)}", dict(found))
    return Findings("pass", observed, required, "no column is the label in disguise", dict(found))


def _ids(params: LeakageParams, found: Mapping[str, Any]) -> Findings:
    required = f"no column of whole numbers has a value of its own in more than {params.max_distinct:g} of the rows"
    columns = {name: item for name, item in found["columns"].items() if name not in params.allow}
    named = sorted(name for name, item in columns.items() if item["distinct"] > params.max_distinct)
    ordered = sorted(
        name for name, item in columns.items() if item["order"] > 0.999 and item["distinct"] > 0.5 and name not in named
    )
    observed = f"{len(columns)} columns of whole numbers, {len(named) + len(ordered)} like an id"
    if named or ordered:
        reason = f"{', '.join([*named, *ordered])} name rows, and a model can only learn them by heart"
        return Findings("fail", observed, required, reason, dict(found))
    return Findings("pass", observed, required, "no column names rows", dict(found))


_CHECKS: Mapping[str, Callable[[LeakageParams, Mapping[str, Any]], Findings]] = {
    "duplicates": _duplicates,
    "entities": _entities,
    "future": _future,
    "proxies": _proxies,
    "ids": _ids,
}
