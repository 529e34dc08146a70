"""Tests for ML infrastructure (section IV of the paper)."""

from __future__ import annotations

from collections import defaultdict

from engine.score.facts import Facts
from engine.score.finding import Finding, Question, by_gate


def reproducible(facts: Facts) -> Finding:
    """1. Training is reproducible."""
    outputs: dict[str, set[str]] = defaultdict(set)
    times: dict[str, int] = defaultdict(int)
    for run in facts.runs:
        for node in run.nodes:
            if node.name == "train" and node.state == "ran" and node.key and node.output:
                outputs[node.key].add(node.output.digest)
                times[node.key] += 1
    again = [key for key, count in times.items() if count > 1]
    done = list(facts.reproduced)
    if done and not done[-1].identical:
        return Finding(0, f"run {done[-1].run_id}, done again, gave other bytes: {done[-1].first_difference}",
                       "`engine runs reproduce` says what differs")  # fmt: skip
    if any(len(outputs[key]) > 1 for key in again):
        return Finding(0, "the same training gave other bytes", "`engine runs reproduce` says what differs")
    if done:
        words = f"run {done[-1].run_id} was done again on {done[-1].at[:10]}, and all {len(done[-1].nodes)} nodes gave the same bytes"
        return Finding(1, f"{words}; {len(done)} times in all" if len(done) > 1 else words)
    if again:
        return Finding(1, f"{len(again)} trainings were repeated, and gave the same bytes")
    add = "show it: `engine runs reproduce last`, or `engine run --force train --reason reproducible`"
    if facts.latest is not None:
        return Finding(
            0.5, "seeds, snapshots, code and libraries are recorded and keyed; no training was repeated", add
        )
    return Finding(0, "nothing has run", add)


def unit_tested(facts: Facts) -> Finding:
    """2. Model specification code is unit tested."""
    return by_gate(
        facts.gates("training"), "`gates: {learns: {kind: training}}`: a step helps, a tiny batch is learnt by heart"
    )


def integrated(facts: Facts) -> Finding:
    """3. The full ML pipeline is integration tested."""
    checked = [run for run in facts.runs if run.command[:2] == ("engine", "ci")]
    if facts.ci_files and checked:
        return Finding(1, f"{', '.join(facts.ci_files)} runs `engine ci`; last as run {checked[0].run_id}")
    if facts.ci_files or checked:
        found = (
            f"`engine ci` ran as run {checked[0].run_id}"
            if checked
            else f"{', '.join(facts.ci_files)} runs `engine ci`"
        )
        return Finding(0.5, found, "both a CI job and a run of it: docs/ci.md has the job")
    return Finding(0, "no change was checked by `engine ci`", "the job of docs/ci.md, for GitHub or GitLab")


def validated(facts: Facts) -> Finding:
    """4. Model quality is validated before attempting to serve it."""
    blocking = [gate for gate in (facts.latest.gates if facts.latest else ()) if gate.severity == "block"]
    if not blocking:
        return Finding(0, "no blocking gate was judged", "`defaults: [/gates: standard]`")
    forced = [entry for entry in facts.ledger if entry.action == "promote" and entry.evidence.get("forced")]
    found = f"{len(blocking)} blocking gates decide on every promotion, on confidence bounds"
    if forced:
        return Finding(0.5, f"{found}; {len(forced)} promotions were forced past them", "let the gates decide")
    return Finding(1, found)


def debuggable(facts: Facts) -> Finding:
    """5. The model allows debugging by observing the step-by-step computation on a single example."""
    if not facts.package:
        return Finding(0, "no model is registered", "`engine run`")
    if not facts.cases:
        return Finding(0.5, "packages keep golden inputs and outputs, bit by bit", "examples in YAML: `tests:`")
    return Finding(1, "every package keeps golden inputs and outputs bit by bit; features are computed for single examples "
                      f"({len(facts.cases)} cases), step by step in `engine features explain`")  # fmt: skip


def canary(facts: Facts) -> Finding:
    """6. Models are tested via a canary process before they enter production."""
    if "rollout" not in facts.declared:
        return Finding(0, "no rollout is declared", "`rollout: {entity: …, steps: [{share: 0}, {share: 0.05}, …]}`")
    moved = [entry for entry in facts.ledger if "rollout" in entry.reason or "rollout" in entry.action]
    if moved:
        return Finding(1, f"a rollout is declared, and {len(moved)} rows of the ledger are its")
    return Finding(
        0.5, "a rollout is declared; no model has gone through it yet", "`engine serve`, and let a challenger ramp up"
    )


def rolled_back(facts: Facts) -> Finding:
    """7. Models can be quickly and safely rolled back to a previous serving version."""
    back = [entry for entry in facts.ledger if entry.action == "rollback"]
    if back:
        drills = sum(bool(entry.evidence.get("drill")) for entry in back)
        return Finding(1, f"done {len(back)} times ({drills} drills), last on {back[-1].at[:10]} by {back[-1].actor}")
    promoted = {entry.to_version for entry in facts.ledger if entry.action == "promote"}
    add = "practise it: `engine models rollback NAME --drill --reason …` goes back and comes again"
    if len(promoted) > 1:
        return Finding(0.5, f"{len(promoted)} versions to go back to; it was never done", add)
    return Finding(0, "there is no earlier version to go back to", f"a second version, then {add}")


QUESTIONS = (
    Question("infrastructure", 1, "Training is reproducible", reproducible),
    Question("infrastructure", 2, "Model specification code is unit tested", unit_tested),
    Question("infrastructure", 3, "The full ML pipeline is integration tested", integrated),
    Question("infrastructure", 4, "Model quality is validated before serving", validated),
    Question("infrastructure", 5, "The model allows debugging by single examples", debuggable),
    Question("infrastructure", 6, "Models are tested via a canary process before production", canary),
    Question("infrastructure", 7, "Models can be quickly and safely rolled back", rolled_back),
)
