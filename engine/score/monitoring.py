"""Monitoring tests (section V of the paper)."""

from __future__ import annotations

from engine.score.facts import Facts
from engine.score.finding import Finding, Question, by_gate, by_loop

_BOTH = ("monitors", "triggers")


def dependencies(facts: Facts) -> Finding:
    """1. Dependency changes result in notification."""
    told = sorted(facts.kinds("notifiers"))
    fresh = [name for name, source in facts.spec.sources.items() if any(item.freshness for item in source.expect)]
    watched = by_loop(facts, ("quality", "drift", "commit"), _BOTH, "")
    parts = [f"freshness of {', '.join(fresh)} is expected"] if fresh else []
    parts += [watched.found] if watched.score else []
    sent = f" ({facts.looked['messages']} messages sent)" if facts.looked.get("messages") else ""
    parts += [f"people are told by {', '.join(told)}{sent}"] if told else []
    if told and watched.score == 1:
        return Finding(1, "; ".join(parts))
    add = "`monitors: default`, and somebody to tell: `notifiers: {team: {kind: webhook, url: …}}`"
    return Finding(
        0.5 if parts else 0, "; ".join(parts) or "nobody is told when a source changes", watched.add if told else add
    )


def invariants(facts: Facts) -> Finding:
    """2. Data invariants hold in training and serving inputs."""
    validated = any(gate.status == "pass" for gate in facts.gates("data_validation"))
    served = by_loop(facts, ("quality", "drift"), ("monitors",), "")
    found = "training data is validated before it is published" if validated else "no validation passed a gate"
    if validated and served.score:
        return Finding(max(served.score, 0.5), f"{found}; serving: {served.found}", served.add)
    add = "watch what is served too: `monitors: default`, and `engine monitor pipeline=…`"
    return Finding(0.5 if validated or served.score else 0, f"{found}; serving: {served.found}", add)


def skew(facts: Facts) -> Finding:
    """3. Training and serving features compute the same values."""
    gates = facts.gates("parity")
    if gates:
        return by_gate(gates, "")
    return by_loop(
        facts, ("parity",), ("monitors",), "`gates: {parity: {kind: parity}}`: a sample of each run is replayed"
    )


def stale(facts: Facts) -> Finding:
    """4. Models are not too stale."""
    return by_loop(facts, ("stale", "cron"), _BOTH, "`triggers: {old: {kind: staleness, older_than: 45d}}`")


def stable(facts: Facts) -> Finding:
    """5. The model is numerically stable."""
    metrics = facts.latest.metrics if facts.latest else ()
    if not metrics:
        return Finding(0, "no run has been measured", "`engine run`")
    finite = all(metric.value is not None for metric in metrics)
    if not finite:
        return Finding(0, "a metric of the last run is not a number", "see why in the run's report")
    scored = facts.gates("beats_baseline", "threshold", "not_worse_than_champion", "calibration", "guardrails")
    if not scored:
        return Finding(0.5, "all metrics are finite", "a gate on scores: it fails when a prediction is not a number")
    return Finding(1, f"every gate on scores fails when a prediction is not finite ({len(scored)} of them judged)")


def speed(facts: Facts) -> Finding:
    """6. The model has not experienced regressions in training speed, serving latency, throughput, or memory."""
    gates = facts.gates("latency", "size")
    service = by_loop(facts, ("service",), ("monitors",), "")
    timed = sum(run.status == "succeeded" for run in facts.runs)
    if gates and service.score == 1:
        return Finding(1, f"{by_gate(gates, '').found}; {service.found}")
    judged = by_gate(gates, "`gates: {fast: {kind: latency, max_ms: 20}, small: {kind: size, max_mb: 10}}`")
    if judged.score == 1 and timed > 1:
        return Finding(1, f"{judged.found}; seconds and memory of {timed} runs are recorded, node by node")
    return Finding(judged.score and 0.5, judged.found, judged.add or "more than one run, to compare its speed with")


def quality(facts: Facts) -> Finding:
    """7. The model has not experienced a regression in prediction quality on served data."""
    add = "realised performance as labels mature: `monitors: {quality: {kind: performance}}`"
    return by_loop(facts, ("performance", "calibration", "concept"), _BOTH, add)


QUESTIONS = (
    Question("monitoring", 1, "Dependency changes result in notification", dependencies),
    Question("monitoring", 2, "Data invariants hold in training and serving inputs", invariants),
    Question("monitoring", 3, "Training and serving features compute the same values", skew),
    Question("monitoring", 4, "Models are not too stale", stale),
    Question("monitoring", 5, "The model is numerically stable", stable),
    Question("monitoring", 6, "No regression of speed, latency or memory", speed),
    Question("monitoring", 7, "No regression of prediction quality on served data", quality),
)
