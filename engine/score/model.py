"""Tests for model development (section III of the paper)."""

from __future__ import annotations

from engine.score.facts import Facts
from engine.score.finding import Finding, Question, by_gate, by_loop


def reviewed(facts: Facts) -> Finding:
    """1. Every model specification undergoes a code review and is checked in to a repository."""
    git = facts.latest.git if facts.latest else None
    if git is None or git.commit is None:
        return Finding(
            0, "no run of a declaration under version control", "`git init`, commit conf/, then `engine run`"
        )
    if git.dirty:
        return Finding(0.5, f"run at {git.commit[:12]} with uncommitted changes", "commit what is run")
    if facts.ci_files:
        return Finding(1, f"run at {git.commit[:12]}, committed; {', '.join(facts.ci_files)} checks each change")
    return Finding(0.5, f"run at {git.commit[:12]}, committed", "have each change checked and reviewed: docs/ci.md")


def proxies(facts: Facts) -> Finding:
    """2. Offline proxy metrics correlate with actual online impact metrics."""
    add = "a monitor of realised performance, and `POST /feedback`: `monitors: {quality: {kind: performance}}`"
    return by_loop(facts, ("performance", "concept"), ("monitors",), add)


def tuned(facts: Facts) -> Finding:
    """3. All hyperparameters have been tuned."""
    if facts.sweeps:
        return Finding(1, f"{facts.sweeps} sweeps over parameters are in the index of runs")
    add = "`engine run -m pipeline=… train.params.num_leaves=15,31,63`"
    tried = {str(sorted(run.overrides)) for run in facts.runs if run.overrides}
    if len(tried) > 1:
        return Finding(0.5, f"{len(tried)} settings were tried by hand", add)
    return Finding(0, "no other parameters were tried", add)


def staleness(facts: Facts) -> Finding:
    """4. The impact of model staleness is known."""
    add = "`analysis: {age: {kind: decay, step: 30d}}`, and `engine analyse`"
    if "decay" in facts.analyses:
        run, document = facts.analyses["decay"]
        found = f"decay curve of run {run}: {document.summary}"
        if facts.kinds("triggers") & {"staleness", "cron"}:
            return Finding(1, f"{found} A trigger retrains by age")
        return Finding(0.5, found, "act on it: `triggers: {old: {kind: staleness, older_than: 45d}}`")
    if facts.kinds("triggers"):
        return Finding(0.5, "retraining is triggered, and what age costs was not measured", add)
    return Finding(0, "what age costs was not measured", add)


def simpler(facts: Facts) -> Finding:
    """5. A simpler model is not better."""
    return by_gate(
        facts.gates("beats_baseline"), "`baseline: {kind: linear}` and `gates: {baseline: {kind: beats_baseline}}`"
    )


def slices(facts: Facts) -> Finding:
    """6. Model quality is sufficient on all important data slices."""
    asked = {name for name, gate in facts.spec.gates.items() if getattr(gate.params, "slices", False)}
    gates = [gate for gate in (facts.latest.gates if facts.latest else ()) if gate.name in asked]
    add = (
        "`gates: {everywhere: {kind: threshold, metric: roc_auc, minimum: 0.6, slices: true}}`, with `evaluate.slices`"
    )
    if gates:
        return by_gate(gates, add)
    measured = len(facts.evaluation.get("slices", ()))
    if measured:
        return Finding(0.5, f"{measured} slices are measured, and no gate holds them to anything", add)
    return Finding(0, "no slices are measured", add)


def inclusion(facts: Facts) -> Finding:
    """7. The model has been tested for considerations of inclusion."""
    return by_gate(facts.gates("fairness"), "`gates: {fair: {kind: fairness, group: …, max_gap: 0.1}}`")


QUESTIONS = (
    Question("model", 1, "Model specs are reviewed and submitted", reviewed),
    Question("model", 2, "Offline and online metrics correlate", proxies),
    Question("model", 3, "All hyperparameters have been tuned", tuned),
    Question("model", 4, "The impact of model staleness is known", staleness),
    Question("model", 5, "A simpler model is not better", simpler),
    Question("model", 6, "Model quality is sufficient on important data slices", slices),
    Question("model", 7, "The model is tested for considerations of inclusion", inclusion),
)
