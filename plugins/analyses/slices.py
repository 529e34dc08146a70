"""The search for weak slices: one half of the held-out rows proposes, the other confirms.

Slices are conjunctions of conditions of single columns (Chung et al. 2019, Slice Finder), ranked by Welch's statistic of their
loss against the loss of all other rows. All sums are of whole numbers, so that neither threads nor blocks of a matrix product
change which slices are proposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import blake2b

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.analysis_contracts import Exhibit, HeldOut
from engine.analysis_records import AnalysisChart, AnalysisDocument, AnalysisPoint, AnalysisSeries, AnalysisTable
from engine.errors import DataError
from engine.evaluation.metrics import Floats

from . import WeakSlicesParams
from .atoms import Atom, atoms_of
from .measuring import Estimate, adjusted, excess, losses, measured, residuals, scores_of

_SCALE = 2**20  # losses become whole multiples of this fraction of the largest one
_SIMPLER = 0.97  # what a further condition has to add, at least, to the statistic
_BEAM = 60
_ALIKE = 0.5  # Jaccard overlap beyond which two slices are the same finding
_WORDS = {"skill": "excess loss", "loss": "loss", "bias": "bias"}
_EXCESS = (
    "Excess loss is a row's loss beyond the usual share of what the reference (the baseline, else the base rate) loses on it: what "
    "is hard for the reference too is not counted against the model."
)
_MOST_ROWS = 40_000
Slice = tuple[Atom, ...]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Half:
    """Rows with what is searched: `loss` (n,), scaled to whole numbers in `whole`."""

    rows: pl.DataFrame
    loss: Floats
    cluster: NDArray[np.int64] | None

    def mask(self, slice_: Slice) -> Mask:
        """Say which rows satisfy every condition."""
        found = np.ones(self.rows.height, dtype=bool)
        for atom in slice_:
            found &= atom.mask(self.rows[atom.column])
        return found


@dataclass(frozen=True, slots=True)
class Proposal:
    """A slice as the searching half saw it."""

    slice_: Slice
    statistic: float
    mask: Mask


class WeakSlices:
    """Searches and confirms."""

    def __init__(self, params: WeakSlicesParams) -> None:
        self._params = params

    def examine(self, exhibit: Exhibit) -> AnalysisDocument:
        """Search one half, confirm on the other; raises `DataError` when there are too few rows for both."""
        given, judged = self._params, exhibit.judgement
        held = _held(exhibit, given.part)
        value = _measured(exhibit, held, given.measure)
        known = np.isfinite(value)
        side = _sides(held, judged.seed)
        search, proof = (_half(held, value, known & (side == which)) for which in (0, 1))
        if min(search.rows.height, proof.rows.height) < 4 * given.min_rows:
            hint = "lower min_rows, or look at the other part"
            raise DataError(
                f"{int(known.sum())} rows are too few to search one half and confirm on the other", hint=hint
            )
        columns = self._columns(held.rows)
        atoms = [
            atom for name in columns for atom in atoms_of(search.rows[name], given.bins, given.values, given.min_rows)
        ]
        exhibit.progress(f"{len(atoms)} conditions of {len(columns)} columns", search.rows.height, None)
        tried, proposals = propose(search, atoms, given)
        whole = np.flatnonzero(known & (side == 1))
        behind = _Proof(exhibit, held, proof, whole, given)
        tested = [seen for item in proposals if (seen := _confirm(behind, item)) is not None]
        p = adjusted({item.words: item.gap.p_above() for item in tested})
        found = sorted(tested, key=lambda item: (p[item.words], -item.gap.value))
        return _document(exhibit, given, found, p, _Searched(len(atoms), tried, search.rows.height, proof.rows.height))

    def _columns(self, rows: pl.DataFrame) -> list[str]:
        names = [name for name in rows.columns if name not in {"row_id", "label", "event_time"}]
        wanted = self._params.columns
        idle = [pattern for pattern in wanted if not any(fnmatchcase(name, pattern) for name in names)]
        if idle:
            hint = f"the rows have {', '.join(names)}"
            raise DataError(f"`columns`: {idle[0]} matches no request field or feature", hint=hint)
        return [name for name in names if not wanted or any(fnmatchcase(name, pattern) for pattern in wanted)]


def _measured(exhibit: Exhibit, held: HeldOut, measure: str) -> Floats:
    match measure:
        case "skill":
            return excess(exhibit, held)
        case "loss":
            return losses(exhibit, held.scored)
        case _:
            return residuals(exhibit, held.scored)


def _held(exhibit: Exhibit, part: str) -> HeldOut:
    if exhibit.held is None:
        raise DataError("there is no model to look at")
    return exhibit.held(part)


def _sides(held: HeldOut, seed: int) -> NDArray[np.int64]:
    """Give each row's half, 0 or 1, by a hash of its cluster, or of its id."""
    cluster = held.scored.cluster
    names = held.scored.ids.astype(str) if cluster is None else cluster.astype(str)
    unique, member = np.unique(names, return_inverse=True)
    drawn = [blake2b(f"{seed}/{name}".encode(), digest_size=1).digest()[0] & 1 for name in unique.tolist()]
    return np.array(drawn, dtype=np.int64)[member]


def _half(held: HeldOut, value: Floats, chosen: Mask) -> Half:
    cluster = held.scored.cluster
    return Half(held.rows.filter(pl.Series(chosen)), value[chosen], None if cluster is None else cluster[chosen])


def propose(half: Half, atoms: Sequence[Atom], given: WeakSlicesParams) -> tuple[int, list[Proposal]]:
    """Rank conjunctions of up to `depth` conditions; gives how many were tried, and the best that are not alike."""
    if not atoms:
        return 0, []
    every = np.stack([atom.mask(half.rows[atom.column]) for atom in atoms], axis=1)
    thin = _thinned(half.rows.height)
    masks = every[thin]
    least = max(1, round(given.min_rows * len(thin) / half.rows.height))
    sums = _Sums.of(half.loss[thin], least, both_sides=given.measure == "bias")
    single = sums.statistics(masks, np.ones((len(masks), 1), dtype=bool))[:, 0]
    best: dict[tuple[int, ...], float] = {
        (place,): float(value) for place, value in enumerate(single) if np.isfinite(value)
    }
    tried = len(atoms)
    beam: list[tuple[int, ...]] = [(place,) for place in range(len(atoms))]
    for depth in range(2, given.depth + 1):
        base = np.stack([masks[:, list(item)].all(axis=1) for item in beam], axis=1)
        table = sums.statistics(masks, base)
        grown: dict[tuple[int, ...], float] = {}
        for row, column in zip(*np.nonzero(np.isfinite(table)), strict=True):
            parents = beam[int(column)]
            if atoms[int(row)].column not in {atoms[place].column for place in parents}:
                grown[tuple(sorted((*parents, int(row))))] = float(table[row, column]) * _SIMPLER ** (depth - 1)
        tried += len(grown)
        best |= grown
        beam = sorted(grown, key=lambda item: (-grown[item], item))[:_BEAM]
        if not beam:
            break
    return tried, _distinct(every, atoms, best, given.confirm)


def _distinct(masks: Mask, atoms: Sequence[Atom], best: dict[tuple[int, ...], float], most: int) -> list[Proposal]:
    """Take the best slices, but those that hold nearly the rows of one taken before."""
    taken: list[Proposal] = []
    for places in sorted(best, key=lambda item: (-best[item], len(item), item))[: 50 * most]:
        if len(taken) == most or best[places] <= 0:
            break
        slice_ = tuple(atoms[place] for place in places)
        mask = np.asarray(masks[:, list(places)].all(axis=1))
        if all(_overlap(mask, other.mask) < _ALIKE for other in taken):
            taken.append(Proposal(slice_, best[places], mask))
    return taken


def _overlap(one: Mask, other: Mask) -> float:
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 0.0


def _thinned(height: int) -> NDArray[np.int64]:
    """Give the places of the rows to search: all, or of many evenly some."""
    return np.unique(np.linspace(0, height - 1, min(height, _MOST_ROWS)).astype(np.int64))


@dataclass(frozen=True, slots=True)
class _Sums:
    """Losses as whole numbers: their sums are exact in doubles, whatever the order of a matrix product."""

    whole: Floats
    least: int
    both_sides: bool

    @classmethod
    def of(cls, loss: Floats, least: int, *, both_sides: bool) -> _Sums:
        # The hundredth largest in a thousand: one wild loss shall not decide which slices are found.
        cap = float(np.quantile(np.abs(loss), 0.99)) or 1.0
        steps = min(_SCALE, int(np.sqrt(2**52 / max(1, len(loss)))))
        return cls(np.round(np.clip(loss / cap, -1.0, 1.0) * steps), least, both_sides)

    def statistics(self, masks: Mask, base: Mask) -> Floats:
        """Give Welch's statistic of each condition within each base, (conditions, bases); NaN with too few rows either way."""
        left, right = masks.astype(np.float64), base.astype(np.float64)
        n = left.T @ right
        first, second = left.T @ (right * self.whole[:, None]), left.T @ (right * np.square(self.whole)[:, None])
        total, sums, squares = float(len(self.whole)), float(self.whole.sum()), float(np.square(self.whole).sum())
        rest = total - n
        with np.errstate(divide="ignore", invalid="ignore"):
            inside, outside = first / n, (sums - first) / rest
            spread = (second / n - inside**2) / n + ((squares - second) / rest - outside**2) / rest
            found = (inside - outside) / np.sqrt(spread)
        found = np.abs(found) if self.both_sides else found
        return np.where((n >= self.least) & (rest >= self.least) & (spread > 0), found, np.nan)


@dataclass(frozen=True, slots=True)
class _Tested:
    """A slice as the confirming half saw it: `gap` is its mean loss (or bias) beyond that of all other rows."""

    words: str
    n: int
    inside: float
    gap: Estimate
    metric: AnalysisPoint
    skill: float | None


@dataclass(frozen=True, slots=True)
class _Searched:
    conditions: int
    tried: int
    search: int
    proof: int


@dataclass(frozen=True, slots=True)
class _Proof:
    """The confirming half, and which of the held-out rows it is."""

    exhibit: Exhibit
    held: HeldOut
    half: Half
    places: NDArray[np.int64]
    given: WeakSlicesParams


def _confirm(proof: _Proof, item: Proposal) -> _Tested | None:
    mask = proof.half.mask(item.slice_)
    if mask.sum() < proof.given.min_rows or (~mask).sum() < proof.given.min_rows:
        return None
    gap = _gap(proof.half, mask)
    if proof.given.measure == "bias" and _gap(Half(proof.half.rows, proof.half.loss, None), mask).value < 0:
        gap = Estimate(-gap.value, gap.error)
    chosen = np.zeros(len(proof.held.scored.y), dtype=bool)
    chosen[proof.places[mask]] = True
    value = measured(proof.exhibit, scores_of(proof.exhibit, proof.held.scored, chosen))
    words = " and ".join(atom.words for atom in item.slice_)
    point = AnalysisPoint(name=words, value=value.value, low=value.low, high=value.high, n=value.n, note=value.reason)
    return _Tested(
        words,
        int(mask.sum()),
        float(proof.half.loss[mask].mean()),
        gap,
        point,
        _skill(proof.exhibit, proof.held, chosen),
    )


def _gap(half: Half, mask: Mask) -> Estimate:
    """Compare the mean inside with the mean outside; the error is robust to clusters (Liang & Zeger 1986)."""
    inside, outside = half.loss[mask], half.loss[~mask]
    part = np.where(
        mask, (half.loss - inside.mean()) / len(inside), -(half.loss - outside.mean()) / max(1, len(outside))
    )
    if half.cluster is not None:
        _, member = np.unique(half.cluster, return_inverse=True)
        part = np.bincount(member, weights=part)
    units = len(part)
    error = float(np.sqrt(np.square(part).sum() * units / max(1, units - 1)))
    return Estimate(float(inside.mean() - outside.mean()), error)


def _skill(exhibit: Exhibit, held: HeldOut, chosen: Mask) -> float | None:
    """Say how much of the loss of the slice's own constant the model saves: what is hard for any model is not its weakness."""
    y = held.scored.y[chosen]
    loss = float(losses(exhibit, held.scored)[chosen].mean())
    match exhibit.target.task:
        case "binary":
            rate = float(y.mean())
            alone = 0.0 if rate in {0.0, 1.0} else -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
        case "multiclass":
            shares = np.unique(y, return_counts=True)[1] / len(y)
            alone = float(-(shares * np.log(shares)).sum())
        case "regression":
            alone = float(y.var())
        case _:
            return None
    return 1.0 - loss / float(alone) if alone > 0 else None


def _document(
    exhibit: Exhibit, given: WeakSlicesParams, found: list[_Tested], p: dict[str, float], searched: _Searched
) -> AnalysisDocument:
    judged, what = exhibit.judgement, _WORDS[given.measure]
    sure = [item for item in found if p[item.words] < 1 - judged.level]
    words = (
        f"{len(sure)} of {len(found)} proposed slices are surely weaker: {'; '.join(item.words for item in sure[:3])}."
        if sure
        else f"No slice is surely weaker; {len(found)} were proposed by one half and not confirmed by the other."
    )
    points = tuple(
        AnalysisPoint(name=item.words, value=item.gap.value, low=item.gap.interval(judged.level)[0],
                      high=item.gap.interval(judged.level)[1], n=item.n, note="confirmed" if item in sure else "not confirmed")
        for item in found
    )  # fmt: skip
    return AnalysisDocument(
        summary=words,
        part=f"{given.part}, the confirming half",
        n=searched.proof,
        metric=judged.metric,
        level=judged.level,
        notes=(
            (f"{searched.tried:,} slices of {searched.conditions} conditions were tried on {searched.search:,} rows; the best that "
            f"are not alike were put before {searched.proof:,} other rows, which had no say in the search, with Holm's correction "
            f"over {len(found)}. Numbers are those of the confirming half."),
            ("Skill is the share of the loss of a constant that the model saves inside the slice: a slice with much loss and much "
            "skill is hard, not neglected."),
            *((_EXCESS,) if given.measure == "skill" else ()),
        ),
        charts=(
            AnalysisChart(kind="intervals", title=f"Mean {what} beyond that of all other rows", reference=0.0,
                          series=(AnalysisSeries(name="slices", points=points),)),
            AnalysisChart(kind="intervals", title=f"{judged.metric} inside the slice",
                          series=(AnalysisSeries(name="slices", points=tuple(item.metric for item in found)),)),
        ) if found else (),
        tables=(
            AnalysisTable(
                caption="Slices on the confirming half", columns=("slice", "rows", f"mean {what}", "beyond others", "p (Holm)", "skill"),
                rows=tuple((item.words, item.n, item.inside, item.gap.value, p[item.words], item.skill) for item in found),
            ),
        ) if found else (),
        facts={
            "confirmed": [item.words for item in sure],
            "slices": [{"slice": item.words, "n": item.n, "gap": item.gap.value, "p_holm": p[item.words],
                        judged.metric: item.metric.value, "skill": item.skill} for item in found],
            "tried": searched.tried, "search_rows": searched.search, "proof_rows": searched.proof,
        },
    )  # fmt: skip
