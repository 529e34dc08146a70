"""From opinions to a decision: whether to launch a run now, and every check that said yes or no. Pure.

Enters: what the triggers said, what waits, the policy, and what is known of the pipeline's runs. Leaves: a `Decision`, with
what waits from now on. The checks stand in one order, and the first that says no decides; the others are told all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import msgspec

from engine.clock import isoformat
from engine.durations import microseconds
from engine.keys import digest
from engine.loop_contracts import Intent, Opinion
from engine.loop_records import PolicyCheck, WaitingReasons
from engine.spec.triggers import RetrainSpec

Action: TypeAlias = Literal["launch", "replace", "wait", "drop", "nothing"]


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a pipeline's runs: those that the loop launched, the newest facts first.

    `subject` identifies data, code and configuration now; `refused_subject` the one that a gate rejected last. `spent` are
    the runs and CPU hours of the budget's period; `suspects` are triggers that say that data is bad, and have not said that
    it is over.
    """

    subject: str = ""
    in_flight: str | None = None
    quarantined: tuple[str, ...] = ()
    suspects: tuple[str, ...] = ()
    failures: int = 0
    failed_subject: str | None = None
    refused_subject: str | None = None
    ended_at: datetime | None = None
    spent_runs: int = 0
    spent_cpu_hours: float = 0.0
    paused: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and what waits afterwards; `key` identifies the run, `checks` are in order."""

    action: Action
    why: str
    checks: tuple[PolicyCheck, ...] = ()
    wish: WaitingReasons | None = None
    launched: WaitingReasons | None = None
    key: str | None = None
    consumed: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Situation:
    """One pipeline at one moment: what it declared, and what is known of its runs."""

    pipeline: str
    policy: RetrainSpec
    now: datetime
    past: Past


def decide(opinions: Mapping[str, Opinion], waiting: WaitingReasons | None, situation: Situation) -> Decision:
    """Decide about one pipeline at one moment."""
    pipeline, policy, now, past = situation.pipeline, situation.policy, situation.now, situation.past
    fired = {name: opinion for name, opinion in opinions.items() if opinion.fired}
    doubts = {name: opinion for name, opinion in fired.items() if opinion.intent == "diagnose"}
    if doubts:
        return _diagnose(opinions, doubts, waiting, situation)
    wish = _merge(waiting, fired, now)
    if wish is None:
        return Decision("nothing", "no trigger fires and nothing waits", consumed=frozenset(opinions))
    checks = tuple(_checks(wish, policy, now, past))
    refused = next((check for check in checks if not check.passed), None)
    patient = frozenset(name for name, opinion in fired.items() if opinion.patient)
    everything = frozenset(opinions)
    if refused is None:
        return Decision("launch", _said(wish), checks, None, wish, run_key(pipeline, wish), everything)
    if refused.name == "single flight":
        if policy.concurrency == "replace":
            return Decision("replace", _said(wish), checks, None, wish, run_key(pipeline, wish), everything)
        if policy.concurrency == "forbid":
            return Decision("drop", f"{refused.name}: {refused.why}", checks, waiting, consumed=everything - patient)
    kept = _merge(waiting, {name: opinion for name, opinion in fired.items() if not opinion.patient}, now)
    return Decision("wait", f"{refused.name}: {refused.why}", checks, kept, consumed=everything - patient)


def _diagnose(
    opinions: Mapping[str, Opinion], doubts: Mapping[str, Opinion], waiting: WaitingReasons | None, situation: Situation
) -> Decision:
    """Launch a diagnosis; reasons to train wait for what it finds. When it cannot be launched now, its triggers fire again."""
    now, everything = situation.now, frozenset(opinions)
    training = {name: opinion for name, opinion in opinions.items() if opinion.fired and name not in doubts}
    kept = _merge(waiting, {name: opinion for name, opinion in training.items() if not opinion.patient}, now)
    patient = frozenset(name for name, opinion in training.items() if opinion.patient)
    wish = _merge(None, doubts, now)
    checks = tuple(_checks(wish, situation.policy, now, situation.past)) if wish else ()
    refused = next((check for check in checks if not check.passed), None)
    if wish is None or refused is not None:
        why = f"{refused.name}: {refused.why}" if refused else "nothing to diagnose"
        return Decision("wait", why, checks, kept, consumed=everything - patient - frozenset(doubts))
    key = run_key(situation.pipeline, wish)
    return Decision("launch", _said(wish), checks, kept, wish, key, everything - patient)


def run_key(pipeline: str, wish: WaitingReasons) -> str:
    """Identify the run that answers a wish: the same occasions never make two runs.

    >>> import msgspec
    >>> wish = WaitingReasons(since="2024-01-01", intent="train", reasons={"nightly": "the slot came"}, occasions={"nightly": "06:00"})
    >>> run_key("flights", wish) == run_key("flights", msgspec.structs.replace(wish, reasons={}, since="later"))
    True
    """
    return digest({"pipeline": pipeline, "intent": wish.intent, "occasions": dict(wish.occasions)})


def _merge(waiting: WaitingReasons | None, fired: Mapping[str, Opinion], now: datetime) -> WaitingReasons | None:
    """Put new reasons to those that wait; a wish to train is stronger than one to diagnose only when it stands alone."""
    if waiting is not None and datetime.fromisoformat(waiting.since) > now:  # the clock went back: it waits since now
        waiting = msgspec.structs.replace(waiting, since=isoformat(now))
    if not fired:
        return waiting
    reasons = (dict(waiting.reasons) if waiting else {}) | {name: opinion.why for name, opinion in fired.items()}
    occasions = (dict(waiting.occasions) if waiting else {}) | {n: opinion.occasion for n, opinion in fired.items()}
    intents = {opinion.intent for opinion in fired.values()} | ({waiting.intent} if waiting else set())
    # Where data is under suspicion nothing is trained on it: a diagnosis wins.
    intent: Intent = "diagnose" if "diagnose" in intents else "train"
    return WaitingReasons(
        since=waiting.since if waiting else isoformat(now), intent=intent, reasons=reasons, occasions=occasions
    )


def _checks(wish: WaitingReasons, policy: RetrainSpec, now: datetime, past: Past) -> list[PolicyCheck]:
    """Every check in the order of the design: quarantine, single flight, backoff, cooldown, budget, debounce."""
    return [
        _paused(past),
        _quarantine(wish, policy, past),
        PolicyCheck(
            name="single flight",
            passed=past.in_flight is None,
            why=f"run {past.in_flight} is in flight" if past.in_flight else "no run is in flight",
        ),
        _rejected(wish, past),
        _backoff(policy, now, past),
        _cooldown(wish, policy, now, past),
        _budget(policy, past),
        _debounce(wish, policy, now),
    ]


def _paused(past: Past) -> PolicyCheck:
    return PolicyCheck(
        name="pause", passed=past.paused is None, why=f"paused: {past.paused}" if past.paused else "not paused"
    )


def _quarantine(wish: WaitingReasons, policy: RetrainSpec, past: Past) -> PolicyCheck:
    if past.suspects and wish.intent == "train":
        words = (
            f"{', '.join(past.suspects)} says that data is bad, and it is not over: nothing is trained on broken data"
        )
        return PolicyCheck(name="quarantine", passed=False, why=words)
    if not past.quarantined:
        return PolicyCheck(name="quarantine", passed=True, why="no source is in quarantine")
    names = ", ".join(past.quarantined)
    if wish.intent == "diagnose":
        return PolicyCheck(name="quarantine", passed=True, why=f"{names} in quarantine: diagnostics run")
    if policy.on_quality_failure == "last_good":
        return PolicyCheck(
            name="quarantine", passed=True, why=f"{names} in quarantine: trains on the last good snapshot, as declared"
        )
    return PolicyCheck(name="quarantine", passed=False, why=f"{names} in quarantine: nothing is trained on broken data")


def _rejected(wish: WaitingReasons, past: Past) -> PolicyCheck:
    same = past.refused_subject is not None and past.refused_subject == past.subject and wish.intent == "train"
    words = "a gate rejected this data, code and configuration" if same else "not what a gate rejected"
    return PolicyCheck(name="rejected before", passed=not same, why=words)


def _backoff(policy: RetrainSpec, now: datetime, past: Past) -> PolicyCheck:
    rule = policy.backoff
    if past.failures == 0 or past.ended_at is None:
        return PolicyCheck(name="backoff", passed=True, why="the last run did not fail")
    if past.failures >= rule.give_up_after:
        open_again = past.failed_subject != past.subject
        words = f"{past.failures} runs in a row failed; " + (
            "something changed since" if open_again else "waits for data, code or configuration to change"
        )
        return PolicyCheck(name="backoff", passed=open_again, why=words)
    pause = min(microseconds(rule.first) * rule.factor ** (past.failures - 1), float(microseconds(rule.longest)))
    until = min(past.ended_at, now) + timedelta(
        microseconds=pause
    )  # a clock that went back makes it no longer than that
    return PolicyCheck(
        name="backoff", passed=now >= until, why=f"{past.failures} failed in a row: not before {isoformat(until)}"
    )


def _cooldown(wish: WaitingReasons, policy: RetrainSpec, now: datetime, past: Past) -> PolicyCheck:
    if past.ended_at is None or wish.intent == "diagnose":
        return PolicyCheck(
            name="cooldown", passed=True, why="no run before" if past.ended_at is None else "for trainings only"
        )
    until = min(past.ended_at, now) + timedelta(microseconds=microseconds(policy.cooldown))
    return PolicyCheck(
        name="cooldown",
        passed=now >= until,
        why=f"the last run ended {isoformat(past.ended_at)}; from {isoformat(until)}",
    )


def _budget(policy: RetrainSpec, past: Past) -> PolicyCheck:
    budget = policy.budget
    parts = []
    if budget.runs is not None:
        parts.append((past.spent_runs < budget.runs, f"{past.spent_runs} of {budget.runs} runs"))
    if budget.cpu_hours is not None:
        spent, limit = past.spent_cpu_hours, budget.cpu_hours
        parts.append((spent < limit, f"{spent:.2f} of {limit:g} CPU hours"))
    words = " and ".join(text for _, text in parts) + f" in {budget.per}" if parts else "no limit"
    return PolicyCheck(name="budget", passed=all(ok for ok, _ in parts), why=words)


def _debounce(wish: WaitingReasons, policy: RetrainSpec, now: datetime) -> PolicyCheck:
    until = datetime.fromisoformat(wish.since) + timedelta(microseconds=microseconds(policy.debounce))
    return PolicyCheck(
        name="debounce", passed=now >= until, why=f"the first reason came {wish.since}; from {isoformat(until)}"
    )


def _said(wish: WaitingReasons) -> str:
    return "; ".join(f"{name}: {why}" for name, why in wish.reasons.items())
