"""Analyses as declared, and what one may ask to have trained beside the model: frozen values, no library.

An analysis' parameters name the `Fit`s that it needs (`Params.fits`), the planner makes a node of each, and equal ones are one
node whoever asks for them, so an ablation, a learning curve and a nested cross-validation share what they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec

from engine.spec.base import Identifier, Prose, Spec

Part: TypeAlias = Literal["test", "validation"]


class AnalysisSpec(Spec, frozen=True, kw_only=True):
    """One look at how a model came to be what it is; `params` are the component's own keys in YAML.

    `demand` runs it in `engine analyse` only, `run` in every run too.
    """

    kind: Identifier
    params: msgspec.Struct
    when: Literal["demand", "run"] = "demand"
    doc: Prose = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What an analysis may vary: the model's columns, by which feature each was declared, and the task."""

    columns: tuple[str, ...]
    declared: Mapping[str, str]
    task: str


@dataclass(frozen=True, slots=True)
class SplitChoice:
    """A splitter with parameters, over all rows, or over those that another split gives to training and validation."""

    kind: str
    params: Mapping[str, Any]
    within: SplitChoice | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Parameters that a fit may choose, and the other fits (by label) whose mean metric speaks for them."""

    params: Mapping[str, Any]
    proofs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """A model trained as the pipeline's, but for what is said here, and scored on a part that did not train it.

    `without` are columns left out; `share` of the training rows, chosen by a hash of their ids and `draw` (a larger share
    holds the smaller one's rows), or the latest; `seed` is added to the training's; `params` are dotted names below the
    trainer's parameters; `split` takes the place of the pipeline's; of `among`, the best by its proofs is trained.
    """

    without: tuple[str, ...] = ()
    share: float = 1.0
    latest: bool = False
    draw: int = 0
    seed: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    split: SplitChoice | None = None
    score: Part = "test"
    among: tuple[Candidate, ...] = ()

    @property
    def is_the_model(self) -> bool:
        """Whether nothing is varied, so that the pipeline's own model can be scored instead."""
        return self == Fit(score=self.score)


DEFAULT_ANALYSES: dict[str, dict[str, str]] = {
    "weak_slices": {"kind": "weak_slices"},
    "permutation": {"kind": "permutation"},
    "shap": {"kind": "shap"},
    "ablation": {"kind": "ablation"},
    "learning": {"kind": "learning_curve"},
}
"""What `analysis: default` stands for; a decay curve and a nested cross-validation need to be told their periods."""
