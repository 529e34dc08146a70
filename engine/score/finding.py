"""What a test of the rubric comes to, and the small words that many of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.records import GateResult
from engine.score.facts import Facts
from engine.score_records import ScoreSection


@dataclass(frozen=True, slots=True)
class Finding:
    """A score of 0, 0.5 or 1 with its evidence, and what would make it more."""

    score: float
    found: str
    add: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One test of the rubric."""

    section: ScoreSection
    number: int
    title: str
    judge: Callable[[Facts], Finding]


def by_gate(gates: Sequence[GateResult], add: str) -> Finding:
    """Judge by gates of the last run: all pass 1, some could not tell or only warn 0.5, none or a failed one 0."""
    if not gates:
        return Finding(0, "no such gate was judged in the last whole run", add)
    words = "; ".join(f"gate {gate.name}: {gate.status}" for gate in gates)
    if all(gate.status == "pass" for gate in gates):
        return Finding(1, f"{words}, in every run")
    if any(gate.status == "fail" and gate.severity == "block" for gate in gates):
        return Finding(0, words, "see why in the run's report, and mend the model or the requirement")
    return Finding(0.5, words, "a gate that cannot tell needs more rows; one that warns may block: `severity: block`")


def by_loop(facts: Facts, kinds: Sequence[str], sections: Sequence[str], add: str) -> Finding:
    """Judge by what is declared of monitors or triggers, and whether it has been looked at: declared 0.5, looked at 1.

    `kinds` are parts of the kinds' names.
    """
    found = {
        kind: facts.evaluated(section, kind)
        for section in sections
        for kind in sorted(facts.kinds(section))
        if any(word in kind for word in kinds)
    }
    if not found:
        return Finding(0, f"nothing of the kind is declared under {' or '.join(sections)}", add)
    words = f"declared: {', '.join(found)}"
    if any(found.values()):
        return Finding(1, f"{words}; looked at {sum(found.values())} times")
    do = "`engine monitor pipeline=…`" if "monitors" in sections else "`engine tick`"
    return Finding(0.5, f"{words}; never looked at yet", f"run {do}, from cron, so that it is looked at by itself")
