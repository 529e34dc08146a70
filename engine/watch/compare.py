"""Compare a chunk's profile with a reference: what moved, how much, and how sure that is. Reads profiles, not rows.

Enters: a `Reference` and a `Profile`. Leaves: a `Comparison` with one entry a column and one for how columns hang together.
Called by the drift and quality monitors. Evidence and size are separate: a column is in alarm when its corrected evidence
is (Benjamini & Hochberg over all columns, each column's components combined before) *and* a component with evidence is large
enough in Cohen's (1988) terms: standard deviations for location and spread, h for shares, w for a mix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from engine.watch.cardinality_evidence import judge_cardinality
from engine.watch.category_evidence import judge_categories
from engine.watch.dependence_evidence import combine_pairs, judge_pairs
from engine.watch.distances import category_distances, number_distances
from engine.watch.frozen import FrozenColumn
from engine.watch.gathering import Gathered, gather_categories, gather_numbers, gather_pairs, gather_shares
from engine.watch.moderation import Floats
from engine.watch.number_evidence import Cells, Evidence, judge_cells, judge_numbers
from engine.watch.profile import ColumnCounts, Profile
from engine.watch.reference import Reference
from engine.watch.scores import adjust, combine

Status: TypeAlias = Literal["ok", "alarm", "insufficient_data", "broken"]
MIN_CHUNKS = 5
WEIGHTS: Mapping[str, float] = {
    "location": 0.70, "spread": 0.05, "skew": 0.05, "shape": 0.03, "spike": 0.02, "range": 0.03,
    "mix": 0.12, "category": 0.48, "unseen": 0.12, "new_value": 0.12,
    "nulls": 0.05, "not_finite": 0.02, "cardinality": 0.05,
}  # fmt: skip
"""How a column's level is shared out among its components: most to what is likeliest and hardest to see, a moved mean. The others
show at once when they are there, so a small part of the level costs them little (`benchmarks/monitor_power.py` tries it)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When to say alarm: corrected evidence at most `level`, and a size of at least `effect`. Below `min_rows`, nothing."""

    level: float = 0.05
    effect: float = 0.1
    min_rows: int = 30
    dependence: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """One component of a column: its tail probability and its size."""

    name: str
    tail: float
    effect: float
    before: float | None = None
    now: float | None = None


@dataclass(frozen=True, slots=True)
class ColumnComparison:
    """One column: `tail` is its combined evidence, `adjusted` that among all columns; `parts` the most telling first."""

    column: str
    status: Status
    tail: float | None = None
    adjusted: float | None = None
    parts: tuple[Part, ...] = ()
    distances: Mapping[str, float] = field(default_factory=dict)
    words: str = ""

    @property
    def effect(self) -> float:
        """The size of the most telling component."""
        return abs(self.parts[0].effect) if self.parts else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """All columns of a chunk, in the order of the reference; `pairs` are the most telling changes of correlation."""

    status: Status
    rows: int
    columns: tuple[ColumnComparison, ...]
    dependence: ColumnComparison | None = None
    pairs: tuple[tuple[str, str, float, float], ...] = ()
    words: str = ""

    @property
    def alarms(self) -> tuple[ColumnComparison, ...]:
        """What is in alarm, the most telling first."""
        entries = (*self.columns, *((self.dependence,) if self.dependence else ()))
        return tuple(sorted((item for item in entries if item.status == "alarm"), key=_rank))


def _rank(item: ColumnComparison) -> tuple[float, float]:
    return (item.adjusted if item.adjusted is not None else 1.0, -item.effect)


def compare(reference: Reference, profile: Profile, rules: Rules | None = None) -> Comparison:
    """Compare; never raises for what the data is like: that is a status."""
    rules = rules or Rules()
    if profile.rows < rules.min_rows:
        words = f"{profile.rows} rows, {rules.min_rows} needed"
        held = tuple(
            ColumnComparison(column.name, "insufficient_data", words=words) for column in reference.frozen.columns
        )
        return Comparison("insufficient_data", profile.rows, held, words=words)
    tails = component_tails(reference, profile) if len(reference.chunks) >= MIN_CHUNKS else {}
    pairs, dependence = _dependence(reference, profile) if rules.dependence and tails else ((), None)
    drafts = [_draft(column, reference, profile, tails.get(column.name, ())) for column in reference.frozen.columns]
    told = [*drafts, *([dependence] if dependence else [])]
    present = np.array([item.tail is not None for item in told], dtype=bool)
    adjusted = (
        adjust(np.array([1.0 if item.tail is None else item.tail for item in told]), present) if told else np.array([])
    )
    judged = [_judge(item, float(value), rules) for item, value in zip(told, adjusted, strict=True)]
    columns = tuple(judged[: len(drafts)])
    whole = Comparison(_overall(judged), profile.rows, columns, judged[-1] if dependence else None, pairs)
    if not tails:
        words = f"{len(reference.chunks)} reference chunks, {MIN_CHUNKS} needed to know how much chunks differ anyway"
        return Comparison("insufficient_data", profile.rows, columns, None, (), words)
    return whole


def _overall(judged: Sequence[ColumnComparison]) -> Status:
    states = {item.status for item in judged}
    return "alarm" if states & {"alarm", "broken"} else "ok" if "ok" in states else "insufficient_data"


def component_tails(reference: Reference, profile: Profile, scale_rows: float | None = None) -> dict[str, list[Part]]:
    """Judge every component of every column that can be; columns in trouble are left out.

    `scale_rows`: how many rows of the profile one chunk has, when several chunks are merged in it: what they have in
    common by wobbling then averages out.
    """
    found: dict[str, list[Part]] = {}
    size = profile.rows if scale_rows is None else scale_rows
    part = size / max(profile.rows, 1)
    numbers, categories = gather_numbers(reference, profile), gather_categories(reference, profile)
    judged = []
    if numbers.names:
        judged.append((numbers.names, judge_numbers(numbers.counts, part)))
    if categories.names:
        judged.append((categories.names, judge_categories(categories.counts, part)))
    for names, evidence in judged:
        for index, name in enumerate(names):
            found.setdefault(name, []).extend(_parts(evidence, index))
    for what in ("nulls", "not_finite"):
        shares: Gathered[Cells] = gather_shares(reference, profile, what)
        if shares.names:
            ratio = np.full(len(shares.names), size) / np.maximum(shares.counts.rows.mean(axis=-1), 1.0)
            tail = judge_cells(shares.counts, ratio, relative=True)[:, 0]
            for index, name in enumerate(shares.names):
                found.setdefault(name, []).append(_share_part(what, shares.counts, index, float(tail[index])))
    if scale_rows is None:
        for name, item in judge_cardinality(reference, profile).items():
            found.setdefault(name, []).append(Part("cardinality", item.tail, item.moved, item.usual, item.now))
    return found


def _parts(evidence: Evidence, index: int) -> list[Part]:
    parts = []
    for place, name in enumerate(evidence.names):
        if not evidence.present[index, place]:
            continue
        before, now = evidence.shares(name, index)
        score = float(evidence.score[index, place])
        effect = cohen_h(before, now) if before is not None and now is not None else score
        parts.append(Part(name, float(evidence.tail[index, place]), effect, before, now))
    return parts


def _share_part(name: str, cells: Cells, index: int, tail: float) -> Part:
    before = float(cells.reference[index].sum() / max(cells.rows[index].sum(), 1.0))
    now = float(cells.current[index, 0] / max(cells.now[index], 1.0))
    return Part(name, tail, cohen_h(before, now), before, now)


def cohen_h(before: float, now: float) -> float:
    """Give the size of a change of a share (Cohen 1988): 0.2 is small, 0.5 medium.

    >>> round(cohen_h(0.05, 0.15), 2)
    0.34
    """
    return 2 * math.asin(math.sqrt(min(max(now, 0.0), 1.0))) - 2 * math.asin(math.sqrt(min(max(before, 0.0), 1.0)))


def combined(parts: Sequence[Part]) -> float:
    """Combine a column's components into one tail probability."""
    weights = np.array([WEIGHTS[part.name] for part in parts])
    return float(combine(np.array([part.tail for part in parts]), weights))


def _draft(column: FrozenColumn, reference: Reference, profile: Profile, parts: Sequence[Part]) -> ColumnComparison:
    name = column.name
    if name in profile.lost:
        return ColumnComparison(name, "broken", words="the column is not there")
    counts = profile.columns[name]
    if counts.trouble:
        return ColumnComparison(name, "broken", words=counts.trouble)
    distances = _distances(column, reference, counts)
    ordered = tuple(sorted(parts, key=lambda part: part.tail / WEIGHTS[part.name]))
    if not ordered:
        words = "no values to compare" if column.kind != "identifier" else "too many values of its own to compare"
        return ColumnComparison(name, "insufficient_data", distances=distances, words=words)
    return ColumnComparison(name, "ok", combined(ordered), None, ordered, distances)


def _distances(column: FrozenColumn, reference: Reference, counts: ColumnCounts) -> Mapping[str, float]:
    known = [chunk.columns[column.name].cells for chunk in reference.chunks if column.name in chunk.columns]
    known = [cells for cells in known if cells]
    if not known or not counts.cells or not sum(counts.cells):
        return {}
    before, now = np.sum(np.array(known, dtype=np.float64), axis=0), np.array(counts.cells, dtype=np.float64)
    if column.kind == "number":
        return number_distances(before, now, column.edges, column.scale)
    if not column.buckets:
        before, now = np.append(before, 0.0), np.append(now, float(counts.unseen))
    return category_distances(before, now)


def _judge(item: ColumnComparison, adjusted: float, rules: Rules) -> ColumnComparison:
    if item.tail is None:
        return item
    telling = [part for part in item.parts if part.tail / WEIGHTS.get(part.name, 1.0) <= rules.level]
    large = [part for part in telling if abs(part.effect) >= rules.effect]
    alarm = adjusted <= rules.level and bool(large)
    parts = (*large, *(part for part in item.parts if part not in large)) if alarm else item.parts
    words = describe(item.column, parts[0]) if alarm else ""
    return ColumnComparison(item.column, "alarm" if alarm else "ok", item.tail, adjusted, parts, item.distances, words)


def _dependence(
    reference: Reference, profile: Profile
) -> tuple[tuple[tuple[str, str, float, float], ...], ColumnComparison | None]:
    gathered = gather_pairs(reference, profile)
    if gathered is None:
        return (), None
    names, moments = gathered
    tail, moved = judge_pairs(moments)
    order = np.argsort(tail)[:10]
    mean = moments.current - moved
    pairs = tuple((*names[i], float(mean[i]), float(moments.current[i])) for i in order)
    best = int(order[0])
    part = Part(
        "dependence", float(tail[best]) * len(tail), float(moved[best]), float(mean[best]), float(moments.current[best])
    )
    return pairs, ColumnComparison(
        f"{names[best][0]} with {names[best][1]}", "ok", float(combine_pairs(tail)), None, (part,)
    )


_WORDS = {
    "location": "moved by {effect:+.2f} standard deviations",
    "spread": "spreads differently ({effect:+.2f})",
    "skew": "leans more to one side ({effect:+.2f})",
    "shape": "has another shape (w = {effect:.2f})",
    "spike": "one range of values went from {before:.1%} to {now:.1%} of rows",
    "range": "{now:.1%} of rows lie beyond the reference's range",
    "mix": "the mix of categories changed (w = {effect:.2f})",
    "category": "one category went from {before:.1%} to {now:.1%} of rows",
    "unseen": "{now:.1%} of rows have values never seen (usually {before:.1%})",
    "new_value": "one new value is {now:.1%} of rows",
    "nulls": "nulls went from {before:.1%} to {now:.1%}",
    "not_finite": "NaN or infinite went from {before:.1%} to {now:.1%}",
    "cardinality": "distinct values went from {before:.0f} to {now:.0f}",
    "dependence": "correlation went from {before:+.2f} to {now:+.2f}",
}


def describe(column: str, part: Part) -> str:
    """Say what a component found, in words."""
    return f"{column}: " + _WORDS[part.name].format(effect=part.effect, before=part.before or 0.0, now=part.now or 0.0)


def tails_array(comparison: Comparison) -> Floats:
    """Give the columns' tail probabilities, 1 where there is none."""
    return np.array([1.0 if item.tail is None else item.tail for item in comparison.columns])
