"""Analyses: where a model is weak, what it relies on, what each feature is worth, what more data and age would do to it.

Enters: the model, rows that did not train it, and models trained beside it. Leaves: `AnalysisDocument`s with charts. Called by
the `analysis` node. This module holds the parameters, says which fits each analysis needs, and is all that planning imports.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import msgspec

from engine.analysis_contracts import Analysis
from engine.components import Component, Params
from engine.durations import as_text, microseconds
from engine.spec.analysis import Candidate, Fit, Part, SplitChoice, Subject
from engine.spec.base import Duration, Identifier

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
_Value = bool | int | float | str
_By = Literal["column", "declaration"]
_MOST_FITS = 500


class WeakSlicesParams(Params, frozen=True, kw_only=True):
    """Search for groups of rows where the model is worse: values and ranges of columns, and up to `depth` of them together.

    Half of the rows of `part` (whole clusters) propose; the other half, which had no say, confirms, corrected by Holm over the
    `confirm` proposals. `measure` is the `skill` (loss beyond the usual share of what the baseline loses on the same rows, or
    the base rate where there is no baseline), the `loss` itself, or the `bias` (label less prediction). `columns` are names or
    globs of request fields and features (none: all). A slice has at least `min_rows` rows in either half.
    """

    columns: tuple[str, ...] = ()
    part: Part = "test"
    depth: Annotated[int, msgspec.Meta(ge=1, le=3)] = 2
    bins: Annotated[int, msgspec.Meta(ge=2, le=20)] = 4
    values: Annotated[int, msgspec.Meta(ge=2, le=200)] = 25
    min_rows: Annotated[int, msgspec.Meta(ge=20)] = 50
    confirm: Annotated[int, msgspec.Meta(ge=1, le=50)] = 10
    measure: Literal["skill", "loss", "bias"] = "skill"

    @property
    def needs_model(self) -> bool:
        """The model is what is searched."""
        return True

    @property
    def needs_baseline(self) -> bool:
        """What is hard for the baseline too is no weakness of the model."""
        return self.measure == "skill"


class PermutationParams(Params, frozen=True, kw_only=True):
    """How much worse the model is when a column's values are shuffled among rows (Breiman 2001), `repeats` times.

    With `by: declaration`, columns of one declared feature are shuffled together. At most `rows` rows, by a hash of their ids.
    """

    part: Part = "validation"
    by: _By = "column"
    repeats: Annotated[int, msgspec.Meta(ge=2, le=100)] = 5
    rows: _Count = 10_000

    @property
    def needs_model(self) -> bool:
        """The model is asked again about shuffled rows."""
        return True


class ShapParams(Params, frozen=True, kw_only=True):
    """SHAP values of the model's raw score by the trainer's own means (trees: Lundberg et al. 2020), on at most `rows` rows."""

    part: Part = "validation"
    rows: _Count = 2000

    @property
    def needs_model(self) -> bool:
        """The model explains itself."""
        return True


class AblationParams(Params, frozen=True, kw_only=True):
    """What the model loses when it is trained without a column, or without all columns of one declared feature.

    `features` are names or globs of those to leave out in turn (none: all). `seeds` trainings of each, so that the chance in
    training is measured too. A feature is `useless` when its removal surely costs less than `margin`, in the metric's units.
    """

    features: tuple[str, ...] = ()
    by: _By = "column"
    part: Part = "validation"
    seeds: Annotated[int, msgspec.Meta(ge=1, le=20)] = 1
    margin: Annotated[float, msgspec.Meta(ge=0)] | None = None

    def fits(self, subject: Subject) -> Mapping[str, Fit]:
        """One fit a feature and seed, and one with all."""
        found = {f"all/{seed}": Fit(seed=seed, score=self.part) for seed in range(self.seeds)}
        for name, columns in self.groups(subject).items():
            if len(columns) < len(subject.columns):
                for seed in range(self.seeds):
                    found[f"{name}/{seed}"] = Fit(without=columns, seed=seed, score=self.part)
        return found

    def groups(self, subject: Subject) -> dict[str, tuple[str, ...]]:
        """Give what is left out together, by name."""
        return grouped(subject, self.by, self.features)


class LearningCurveParams(Params, frozen=True, kw_only=True):
    """How the model does with a share of its training rows; `draws` random choices of each, or the `latest` ones.

    More rows help if the curve still falls (rises) at its end; the latest rows being as good as all says that old ones do not.
    """

    shares: tuple[_Share, ...] = (0.1, 0.25, 0.5, 1.0)
    part: Part = "validation"
    draws: Annotated[int, msgspec.Meta(ge=1, le=20)] = 2
    latest: bool = False

    def __post_init__(self) -> None:
        """Refuse a curve without its end, or with points in no order."""
        if list(self.shares) != sorted(set(self.shares)) or self.shares[-1:] != (1.0,) or len(self.shares) < 2:
            raise ValueError("`shares` rise and end with 1.0, as in [0.1, 0.25, 0.5, 1.0]")

    def fits(self, subject: Subject) -> Mapping[str, Fit]:  # noqa: ARG002 - the same for every model
        """One fit a share and draw; all rows once."""
        draws = 1 if self.latest else self.draws
        partial = {
            f"{share:g}/{draw}": Fit(share=share, draw=draw, latest=self.latest, score=self.part)
            for share in self.shares[:-1]
            for draw in range(draws)
        }
        return {**partial, "1/0": Fit(score=self.part)}


class DecayParams(Params, frozen=True, kw_only=True):
    """How a model does as it ages, against one that is fresh, on the same rows: from which follows when to train again.

    `origins` models are trained, each on what was known at its moment, one `step` apart; the last `step`s of the data judge them.
    Comparing an old model with the fresh one of the same period separates age from how hard a period is. `tolerance` is what
    may be lost, in the metric's units; without it, retraining is due when a model is surely worse. `validation` before each
    origin stops the training (default: a step), `window` limits how far back it reaches.
    """

    step: Duration
    origins: Annotated[int, msgspec.Meta(ge=2, le=60)] = 6
    validation: Duration | None = None
    window: Duration | None = None
    tolerance: Annotated[float, msgspec.Meta(ge=0)] | None = None

    def fits(self, subject: Subject) -> Mapping[str, Fit]:  # noqa: ARG002 - the same for every model
        """One fit an origin, the oldest first; each scores all that comes after it."""
        step = microseconds(self.step)
        found = {}
        for place in range(self.origins):
            params: dict[str, Any] = {
                "horizon": as_text(step * (self.origins - place)),
                "step": self.step,
                "validation": self.validation or self.step,
                "window": self.window,
            }
            found[f"origin/{place}"] = Fit(split=SplitChoice("rolling_origin", params))
        return found


class NestedParams(Params, frozen=True, kw_only=True):
    """Nested cross-validation: what the whole procedure, choosing parameters included, is worth on rows that had no say in it.

    `grid` maps parameters of the trainer (dotted, as in `params.num_leaves`) to their values. In each of `folds` outer folds,
    `inner_folds` folds of the rows outside its test choose. With `horizon` folds are rolling origins; with `by`, repeated
    random splits that keep an entity's rows together (`by: row_id` for rows that stand alone). `most` limits the grid.
    """

    grid: Annotated[dict[str, Annotated[tuple[_Value, ...], msgspec.Meta(min_length=1)]], msgspec.Meta(min_length=1)]
    folds: Annotated[int, msgspec.Meta(ge=2, le=20)] = 3
    inner_folds: Annotated[int, msgspec.Meta(ge=1, le=20)] = 2
    horizon: Duration | None = None
    validation: Duration | None = None
    window: Duration | None = None
    by: Identifier | None = None
    share: Annotated[float, msgspec.Meta(gt=0, lt=0.5)] = 0.2

    def __post_init__(self) -> None:
        """Refuse folds of no kind, and more models than anybody waits for."""
        if (self.horizon is None) == (self.by is None):
            raise ValueError("give `horizon` (folds in time) or `by` (folds of entities, `row_id` for single rows)")
        if self.by is not None and (self.validation is not None or self.window is not None):
            raise ValueError("`validation` and `window` belong to `horizon`")
        count = len(self.candidates()) * self.folds * self.inner_folds
        if count > _MOST_FITS:
            raise ValueError(f"the grid asks for {count} inner trainings; {_MOST_FITS} at most")

    def candidates(self) -> list[dict[str, _Value]]:
        """Give every combination of the grid."""
        found: list[dict[str, _Value]] = [{}]
        for name, values in self.grid.items():
            found = [{**item, name: value} for item in found for value in values]
        return found

    def fits(self, subject: Subject) -> Mapping[str, Fit]:  # noqa: ARG002 - the same for every model
        """The inner fits of every fold and candidate, and for each outer fold the fit that chooses among them."""
        found: dict[str, Fit] = {}
        for fold in range(self.folds):
            outer = self._split(fold)
            among = []
            for place, params in enumerate(self.candidates()):
                proofs = tuple(f"fold/{fold}/{place}/{inner}" for inner in range(self.inner_folds))
                for inner, label in enumerate(proofs):
                    found[label] = Fit(params=params, split=self._split(inner, outer))
                among.append(Candidate(params, proofs))
            found[f"outer/{fold}"] = Fit(split=outer, among=tuple(among))
        return found

    def _split(self, fold: int, within: SplitChoice | None = None) -> SplitChoice:
        if self.by is not None:
            # Another salt inside: by the same one, the inner test would be the outer test's rows, which are not there.
            salt = f"fold {fold}" if within is None else f"inner fold {fold} of {within.params['salt']}"
            shares = {"by": self.by, "test": self.share, "validation": self.share / 2, "salt": salt}
            return SplitChoice("group", shares, within)
        params = {
            "horizon": self.horizon,
            "validation": self.validation or self.horizon,
            "window": self.window,
            "back": fold,
        }
        return SplitChoice("rolling_origin", params, within)


def grouped(subject: Subject, by: str, wanted: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """Give columns by what they are looked at together: each alone, or those of one declaration; filtered by names or globs.

    Raises `ValueError` for a pattern that matches nothing.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in subject.columns:
        label = subject.declared[name] if by == "declaration" else name
        found[label] = (*found.get(label, ()), name)
    names = {*found, *subject.columns}
    idle = [pattern for pattern in wanted if not any(fnmatchcase(name, pattern) for name in names)]
    if idle:
        raise ValueError(f"`{idle[0]}` matches no column of the model; it has {', '.join(subject.columns)}")
    return {
        label: columns
        for label, columns in found.items()
        if not wanted or any(fnmatchcase(name, pattern) for pattern in wanted for name in (label, *columns))
    }


def _build(module: str, name: str) -> Any:
    def build(params: Params) -> Analysis:
        made: Analysis = getattr(importlib.import_module(f"{__name__}.{module}"), name)(params)
        return made

    return build


def components() -> tuple[Component, ...]:
    """Contribute the analyses."""
    return (
        Component(
            "analysis", "weak_slices", WeakSlicesParams, _build("slices", "WeakSlices"), ("scipy",), "where it is weak"
        ),
        Component(
            "analysis", "permutation", PermutationParams, _build("importance", "Permutation"), (), "what it relies on"
        ),
        Component("analysis", "shap", ShapParams, _build("importance", "Shap"), (), "what moves its scores"),
        Component("analysis", "ablation", AblationParams, _build("refits", "Ablation"), (), "what a feature is worth"),
        Component(
            "analysis", "learning_curve", LearningCurveParams, _build("refits", "LearningCurve"), (), "more rows"
        ),
        Component("analysis", "decay", DecayParams, _build("ageing", "Decay"), ("scipy",), "what age costs"),
        Component("analysis", "nested_cv", NestedParams, _build("refits", "Nested"), (), "what choosing is worth"),
    )
