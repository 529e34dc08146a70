"""What models trained beside the pipeline's own show: ablation, learning curve, nested cross-validation."""

from __future__ import annotations

import json
import math

import numpy as np

from engine.analysis_contracts import Exhibit, Scored
from engine.analysis_records import AnalysisChart, AnalysisDocument, AnalysisPoint, AnalysisSeries, AnalysisTable

from . import AblationParams, LearningCurveParams, NestedParams
from .measuring import Estimate, adjusted, harm, measured, metric_better, pool, refuse_unequal, scores_of


class Ablation:
    """Leaves features out in turn."""

    def __init__(self, params: AblationParams) -> None:
        self._params = params

    def examine(self, exhibit: Exhibit) -> AnalysisDocument:
        """Compare each model without a feature with the whole one, on the same rows."""
        given, level = self._params, exhibit.judgement.level
        harms: dict[str, Estimate] = {}
        for name in given.groups(exhibit.subject):
            if f"{name}/0" in exhibit.fits:
                exhibit.progress(f"without {name}", None, None)
                pairs = [(exhibit.fits[f"{name}/{seed}"], exhibit.fits[f"all/{seed}"]) for seed in range(given.seeds)]
                harms[name] = pool([_paired(exhibit, *pair) for pair in pairs], same_rows=True)
        worse = adjusted({name: item.p_above() for name, item in harms.items()})
        better = adjusted({name: Estimate(-item.value, item.error).p_above() for name, item in harms.items()})
        said = {name: self._status(item, (worse[name], better[name]), level) for name, item in harms.items()}
        ranked = sorted(harms, key=lambda name: (-harms[name].value, name))
        points = tuple(_point(name, harms[name], level, said[name]) for name in ranked)
        metric = exhibit.judgement.metric
        by = {word: [name for name in ranked if said[name] == word] for word in ("matters", "harmful", "useless")}
        noise = (
            ""
            if given.seeds > 1
            else " One training each: what chance in training does is not in the intervals (`seeds`)."
        )
        return AnalysisDocument(
            summary=_ablation_words(by, len(ranked)),
            part=given.part,
            n=len(exhibit.fits["all/0"].y),
            metric=metric,
            level=level,
            notes=(
                (f"Loss of {metric} when trained without it, paired on the same {given.part} rows; above 0 the feature helps. "
                f"`matters` and `harmful` survive Holm's correction over {len(ranked)} features.{noise}"),
                "Features that say the same thing each look useless alone; leave out one at a time.",
            ),
            charts=(
                AnalysisChart(
                    kind="intervals", title=f"What leaving a feature out costs ({metric})",
                    series=(AnalysisSeries(name="loss", points=points),), reference=0.0,
                ),
            ),
            facts={
                **by,
                "harm": {name: harms[name].value for name in ranked},
                "p_holm": {name: worse[name] for name in ranked},
                "fits": len(exhibit.fits),
            },
        )  # fmt: skip

    def _status(self, item: Estimate, p: tuple[float, float], level: float) -> str:
        high = item.interval(level)[1]
        if p[0] < 1 - level:
            return "matters"
        if p[1] < 1 - level:
            return "harmful"
        if self._params.margin is not None and high is not None and high < self._params.margin:
            return "useless"
        return "not shown"


def _ablation_words(by: dict[str, list[str]], count: int) -> str:
    words = [f"{len(by['matters'])} of {count} features surely help"]
    if by["harmful"]:
        words.append(f"the model is surely better without {', '.join(by['harmful'][:5])}")
    if by["useless"]:
        words.append(f"useless within the margin: {', '.join(by['useless'][:5])}")
    return "; ".join(words) + "."


def _paired(exhibit: Exhibit, changed: Scored, whole: Scored) -> Estimate:
    refuse_unequal(changed, whole)
    return harm(exhibit, scores_of(exhibit, changed), scores_of(exhibit, whole))


def _point(name: str, item: Estimate, level: float, note: str) -> AnalysisPoint:
    low, high = item.interval(level)
    return AnalysisPoint(name=name, value=item.value, low=low, high=high, note=note)


class LearningCurve:
    """Trains on shares of the rows."""

    def __init__(self, params: LearningCurveParams) -> None:
        self._params = params

    def examine(self, exhibit: Exhibit) -> AnalysisDocument:
        """Measure each share, and what the last step of the curve brought."""
        given, judged = self._params, exhibit.judgement
        draws = {share: self._draws(exhibit, share) for share in given.shares}
        points = tuple(_curve_point(exhibit, share, items) for share, items in draws.items())
        whole, before = draws[1.0][0], draws[given.shares[-2]]
        gain = pool([_paired(exhibit, item, whole) for item in before], same_rows=True)
        low, high = gain.interval(judged.level)
        doubling = gain.value / math.log2(1.0 / given.shares[-2])
        still = low is not None and low > 0
        which = "latest" if given.latest else "random"
        return AnalysisDocument(
            summary=(
                f"From {given.shares[-2]:.0%} to all {int(whole.facts['rows']):,} training rows, {judged.metric} "
                f"{'surely improved' if still else 'did not surely improve'} by {gain.value:.4g}"
                + (f" ({low:.4g} to {high:.4g})" if low is not None and high is not None else "")
                + ("; more rows should help." if still and not given.latest else ".")
            ),
            part=given.part,
            n=len(whole.y),
            metric=judged.metric,
            level=judged.level,
            notes=(
                (f"Trained on the {which} share of the training rows, {1 if given.latest else given.draws} draws each, scored on "
                f"the same {given.part} rows. The interval holds the rows' chance and the draws'."),
            ),
            charts=(
                AnalysisChart(
                    kind="curve", title=f"{judged.metric} by training rows", x="training rows", y=judged.metric,
                    series=(AnalysisSeries(name=f"{given.part} rows", points=points),),
                ),
            ),
            facts={"gain": gain.value, "gain_low": low, "gain_high": high, "per_doubling": doubling, "more_helps": still,
                   "fits": len(exhibit.fits)},
        )  # fmt: skip

    def _draws(self, exhibit: Exhibit, share: float) -> list[Scored]:
        labels = ["1/0"] if share >= 1 else [f"{share:g}/{draw}" for draw in range(self._params.draws)]
        return [exhibit.fits[label] for label in labels if label in exhibit.fits]


def _curve_point(exhibit: Exhibit, share: float, items: list[Scored]) -> AnalysisPoint:
    rows = float(np.mean([item.facts["rows"] for item in items]))
    found = [measured(exhibit, scores_of(exhibit, item)) for item in items]
    values = [item.value for item in found if item.value is not None]
    if not values:
        return AnalysisPoint(name=f"{share:.0%}", x=rows, note=found[0].reason)
    lows, highs = ([getattr(item, end) for item in found if getattr(item, end) is not None] for end in ("low", "high"))
    return AnalysisPoint(
        name=f"{share:.0%}", x=rows, value=float(np.mean(values)), n=len(items),
        low=min(lows, default=None), high=max(highs, default=None),
    )  # fmt: skip


class Nested:
    """Judges the choice of parameters by rows that had no say in it."""

    def __init__(self, params: NestedParams) -> None:
        self._params = params

    def examine(self, exhibit: Exhibit) -> AnalysisDocument:
        """Put the outer folds together; how much the inner folds promised beyond them is the optimism."""
        given, judged = self._params, exhibit.judgement
        outer = [exhibit.fits[f"outer/{fold}"] for fold in range(given.folds)]
        found = [measured(exhibit, scores_of(exhibit, item)) for item in outer]
        values = np.array([item.value if item.value is not None else np.nan for item in found])
        known = values[np.isfinite(values)]
        inner = np.array([float(item.facts["inner"]) for item in outer])
        chosen = [json.dumps(item.facts["chosen"], sort_keys=True) for item in outer]
        mean = float(known.mean()) if len(known) else None
        error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None
        sign = 1 if metric_better(judged.metric) else -1
        optimism = float(sign * (inner - values)[np.isfinite(values)].mean()) if len(known) else None
        points = tuple(
            AnalysisPoint(name=f"fold {place}", value=item.value, low=item.low, high=item.high, n=item.n,
                          note=chosen[place] if item.value is not None else item.reason)
            for place, item in enumerate(found)
        )  # fmt: skip
        distinct = len(set(chosen))
        shown = "undefined" if mean is None else f"{mean:.4g}" + (f" \u00b1 {error:.2g}" if error is not None else "")
        return AnalysisDocument(
            summary=(
                f"Choosing among {len(given.candidates())} settings and training is worth {judged.metric} {shown} over "
                f"{given.folds} outer folds; the inner folds promised {0 if optimism is None else optimism:.2g} more. "
                f"{distinct} different setting{'s' if distinct != 1 else ''} chosen."
            ),
            part="outer folds",
            n=int(sum(item.n for item in found)),
            metric=judged.metric,
            level=judged.level,
            notes=(
                ("The number is of the procedure (choose, then train), not of one setting. Folds share training rows, so the "
                "standard error between them is too small for a test (Bengio & Grandvalet 2004)."),
            ),
            charts=(
                AnalysisChart(
                    kind="intervals", title=f"{judged.metric} of the outer folds",
                    series=(AnalysisSeries(name="outer", points=points),), reference=mean,
                ),
            ),
            tables=(
                AnalysisTable(
                    caption="What each outer fold chose", columns=("fold", "chosen", "inner mean", judged.metric, "rows"),
                    rows=tuple((f"fold {i}", chosen[i], float(inner[i]), found[i].value, found[i].n) for i in range(len(outer))),
                ),
            ),
            facts={"mean": mean, "standard_error": error, "optimism": optimism, "chosen": [item.facts["chosen"] for item in outer],
                   "fits": len(exhibit.fits)},
        )  # fmt: skip
