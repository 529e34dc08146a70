"""Judging what the probes measured: behaviour, leakage, training in small, latency and size.

Enters: parameters and evidence. Leaves: findings. What was not measured is inconclusive; zero rows fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scipy.special import bdtr

from engine.contracts import Evidence
from engine.evaluation.significance import clopper_pearson

from .judging import Findings
from .probing import DirParams, InvParams, LatencyParams, MftParams, SizeParams, TrainingParams

Behaviour = MftParams | InvParams | DirParams


def answer_of(evidence: Evidence, probe: str, gate: str) -> Mapping[str, Any] | None:
    """Give what a probe answered to a gate, if it was asked and did."""
    found = evidence.probes.get(probe, {}).get(gate)
    return found if isinstance(found, Mapping) else None


def not_measured(probe: str, required: str) -> Findings:
    """Say that nothing is known."""
    return Findings("inconclusive", "not measured", required, f"the probe `{probe}` left no answer for this gate")


def judge_behaviour(params: Behaviour, evidence: Evidence, gate: str) -> Findings:
    """Hold the share of failing rows against what is allowed."""
    required = f"{_expectation(params)}; at most {params.max_failures:.3g} of the rows fail"
    found = answer_of(evidence, "behaviour", gate)
    if found is None:
        return not_measured("behaviour", required)
    rows, failed = int(found["rows"]), int(found["failed"])
    if rows == 0:
        reason = "no row matches" if not found.get("matched") else "the change changes nothing in any matching row"
        return Findings("fail", "0 rows", required, f"{reason}, so nothing is shown", dict(found))
    interval = clopper_pearson(failed, rows, level=2 * params.level - 1)
    observed = f"{failed} of {rows} rows fail ({interval.low:.4f} to {interval.high:.4f})"
    numbers = {**found, "share": interval.value, "low": interval.low, "high": interval.high, "level": params.level,
               "n": rows, "minimal_detectable_effect": clopper_pearson(0, rows, 2 * params.level - 1).high}  # fmt: skip
    if interval.value > params.max_failures:
        return Findings("fail", observed, required, f"{failed} rows fail{_example(found)}", numbers)
    if params.max_failures > 0 and interval.high > params.max_failures:
        reason = f"{rows} rows are too few to tell: up to {interval.high:.3g} may fail"
        return Findings("inconclusive", observed, required, reason, numbers)
    shown = numbers["minimal_detectable_effect"]
    reason = "as expected" if failed else f"no row fails; a share of {shown:.3g} would have shown"
    return Findings("pass", observed, required, reason, numbers)


def _expectation(params: Behaviour) -> str:
    if isinstance(params, MftParams):
        parts = [f"at least {params.at_least:g}"] if params.at_least is not None else []
        parts += [f"at most {params.at_most:g}"] if params.at_most is not None else []
        return f"predictions are {' and '.join(parts)}"
    changed = ", ".join(f"{name} = {text}" for name, text in params.change.items())
    if isinstance(params, InvParams):
        return f"predictions move by at most {params.tolerance:g} when {changed}"
    least = f"by at least {params.by:g}" if params.by else "or stay"
    return f"predictions move {params.direction} {least} when {changed}"


def _example(found: Mapping[str, Any]) -> str:
    small = found.get("minimised") or found.get("failing")
    if not small:
        return ""
    first = small[0]
    matters = first.get("matters", first["request"])
    said = ", ".join(f"{name} {value}" for name, value in matters.items() if name not in first["change"])
    changed = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in first["change"].items())
    moved = f"{_short(first['before'])} -> {_short(first['after'])}" if first["change"] else _short(first["after"])
    when = f" when {changed}" if changed else ""
    return f"; the worst, {first['row_id']}: {moved}{when}" + (f", with {said}" if said else "")


def _short(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.4f}"


def judge_training(params: TrainingParams, evidence: Evidence, gate: str) -> Findings:
    """Ask that a step helps, that a tiny batch is learnt by heart, and that files keep every bit of a score."""
    by_heart = f"{params.batch} rows by heart (loss at most {params.max_loss:g} of a constant's)"
    required = f"a step lowers the loss; {by_heart}; same bits from files"
    found = answer_of(evidence, "training", gate)
    if found is None:
        return not_measured("training", required)
    step, tiny, reloaded = found["one_step"], found["tiny_batch"], found["reloaded"]
    errors = [
        f"{name}: {item['error']}" for name, item in (("one step", step), ("tiny batch", tiny)) if "error" in item
    ]
    wrong = []
    if "error" not in step and not step["after"] < step["before"]:
        wrong.append(f"one step took the loss from {step['before']:.4f} to {step['after']:.4f}")
    if "error" not in tiny and not tiny["after"] <= params.max_loss * tiny["before"]:
        wrong.append(f"{tiny['rows']} rows were not learnt: loss {tiny['before']:.4f} to {tiny['after']:.4f}")
    if reloaded["differing"]:
        wrong.append(f"{reloaded['differing']} predictions differ after writing and reading the model")
    observed = "; ".join(
        f"{words} {item['before']:.4f} -> {item['after']:.4f}"
        for words, item in (("one step: loss", step), (f"{tiny.get('rows', 0)} rows: loss", tiny))
        if "error" not in item
    )
    observed += f"; {reloaded['differing']} of {reloaded['rows']} scores differ after reloading"
    if wrong:
        return Findings("fail", observed, required, "; ".join(wrong), dict(found))
    if errors:
        return Findings("inconclusive", observed, required, "; ".join(errors), dict(found))
    return Findings("pass", observed, required, "the trainer learns, and its files keep what it learnt", dict(found))


def judge_latency(params: LatencyParams, evidence: Evidence, gate: str) -> Findings:
    """Hold a quantile of the times against the limit, by the bound from order statistics."""
    required = f"p{params.quantile * 100:g} of {params.rows} rows <= {params.max_ms:g} ms, at its upper bound"
    found = answer_of(evidence, "latency", gate)
    if found is None:
        return not_measured("latency", required)
    times = found["milliseconds"]
    n = len(times)
    if n == 0:
        return Findings("fail", "0 calls", required, f"there are fewer than {params.rows} test rows", {"n": 0})
    value = times[min(n - 1, int(params.quantile * n))]
    place = quantile_bound(n, params.quantile, params.level)
    bound = times[place] if place is not None else None
    numbers = {"n": n, "value": value, "high": bound, "median": times[n // 2], "level": params.level}
    observed = f"p{params.quantile * 100:g} {value:.3f} ms, median {times[n // 2]:.3f} ms, n = {n}"
    if value > params.max_ms:
        return Findings("fail", observed, required, "the measured value itself misses what is required", numbers)
    if bound is None or bound > params.max_ms:
        return Findings("inconclusive", observed, required, f"{n} calls are too few to tell", numbers)
    return Findings(
        "pass", observed, required, f"the confidence bound, {bound:.3f} ms, meets what is required", numbers
    )


def quantile_bound(n: int, quantile: float, level: float) -> int | None:
    """Give the place (from 0) of the order statistic above a quantile with this confidence; `None` with too few values.

    >>> quantile_bound(59, 0.95, 0.95), quantile_bound(58, 0.95, 0.95)
    (58, None)
    """
    for place in range(int(quantile * n), n):
        if float(bdtr(place, n, quantile)) >= level:
            return place
    return None


def judge_size(params: SizeParams, evidence: Evidence, gate: str) -> Findings:
    """Hold the bytes of the model against the limit."""
    required = f"at most {params.max_mb:g} MB"
    found = answer_of(evidence, "size", gate)
    if found is None:
        return not_measured("size", required)
    size = found["bytes"] / 1e6
    status, reason = ("pass", "small enough") if size <= params.max_mb else ("fail", "the model is larger than allowed")
    return Findings("pass" if status == "pass" else "fail", f"{size:.3f} MB", required, reason, dict(found))
