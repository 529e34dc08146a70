"""Trainer `lightgbm`: gradient-boosted trees, bit for bit the same for any number of threads.

Enters: matrices of training and validation rows. Leaves: `model.txt` (LightGBM's own text) and `columns.json`. Called
by the `train` node, and to score by whoever loads a model package. This module holds the parameters and is all that
planning imports; `trainer` does the work.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from engine.components import Component, Params
from engine.contracts import Trainer

Objective: TypeAlias = Literal[
    "binary", "multiclass", "regression", "regression_l1", "huber", "quantile", "poisson", "lambdarank"
]
_Positive = Annotated[float, msgspec.Meta(gt=0)]
_NonNegative = Annotated[float, msgspec.Meta(ge=0)]
_Share = Annotated[float, msgspec.Meta(gt=0, le=1)]

# Further parameters of LightGBM that may be set under `extra`: none of them changes with threads or machine.
EXTRA = frozenset(
    {
        "alpha", "boost_from_average", "cat_l2", "cat_smooth", "extra_trees", "feature_fraction_bynode",
        "max_cat_threshold", "max_cat_to_onehot", "max_delta_step", "min_data_in_bin", "min_data_per_group",
        "min_sum_hessian_in_leaf", "monotone_constraints_method", "monotone_penalty", "neg_bagging_fraction",
        "path_smooth", "poisson_max_delta_step", "pos_bagging_fraction", "sigmoid", "use_missing", "zero_as_missing",
    }
)  # fmt: skip
_REFUSED = {
    "the seed of a training is `train.seed`": ("seed", "random_state"),
    "threads come from `execute.threads` and never change the result": ("thread", "n_jobs", "nthread"),
    "training is deterministic, and this would end that": (
        "data_sample_strategy", "deterministic", "device", "force_col_wise", "force_row_wise", "goss", "gpu", "machine",
        "quant", "tree_learner",
    ),
}  # fmt: skip


class TreeParams(Params, frozen=True, kw_only=True):
    """LightGBM's parameters under their own names and with their own defaults."""

    num_leaves: Annotated[int, msgspec.Meta(ge=2, le=131_072)] = 31
    learning_rate: _Positive = 0.1
    min_data_in_leaf: Annotated[int, msgspec.Meta(ge=1)] = 20
    feature_fraction: _Share = 1.0
    bagging_fraction: _Share = 1.0
    bagging_freq: Annotated[int, msgspec.Meta(ge=0)] = 0
    lambda_l1: _NonNegative = 0.0
    lambda_l2: _NonNegative = 0.0
    max_depth: Annotated[int, msgspec.Meta(ge=-1)] = -1
    max_bin: Annotated[int, msgspec.Meta(ge=2, le=65_535)] = 255
    min_gain_to_split: _NonNegative = 0.0
    scale_pos_weight: _Positive = 1.0
    is_unbalance: bool = False

    def __post_init__(self) -> None:
        """Refuse what LightGBM would only notice after the data was read."""
        if self.is_unbalance and self.scale_pos_weight != 1:
            raise ValueError("`is_unbalance` and `scale_pos_weight` both weight the positives: set one of them")
        if self.bagging_fraction < 1 and self.bagging_freq == 0:
            raise ValueError("`bagging_fraction` does nothing while `bagging_freq` is 0: set `bagging_freq: 1`")


class LightGbmParams(Params, frozen=True, kw_only=True):
    """`rounds` is the most trees; `early_stopping` rounds without a better validation loss end it (0: never).

    `objective` is by default the task's own. `categorical: false` splits encoded columns by order, which is faster and, with
    thousands of values, often no worse than by category. `monotone` maps a column to 1 (rising), -1 (falling) or 0. Columns
    of one `interaction` group may be split on along one path; a column in no group only with itself.
    """

    rounds: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 300
    early_stopping: Annotated[int, msgspec.Meta(ge=0)] = 30
    objective: Objective | None = None
    params: TreeParams = TreeParams()
    monotone: dict[str, Literal[-1, 0, 1]] = {}
    interaction: tuple[tuple[str, ...], ...] = ()
    categorical: bool = True
    extra: dict[str, bool | int | float | str] = {}

    def __post_init__(self) -> None:
        """Refuse parameters under `extra` that have a field of their own, or that would make the result vary."""
        for name in self.extra:
            if name not in EXTRA:
                raise ValueError(_refusal(name))


class DistributedParams(LightGbmParams, frozen=True, kw_only=True):
    """As `lightgbm`, with rows that stay on disk: each of `workers` Dask workers reads and bins its own share of them.

    `workers` decides the result, as rows are summed by share; the same number gives the same bits. They are those of
    `dask.address`, each with a free slot, or processes started here. Without stopping early, trees after the best round on the
    validation rows are cut off (`early_stopping: 0` keeps all).
    """

    workers: Annotated[int, msgspec.Meta(ge=2, le=1024)] = 2


def _refusal(name: str) -> str:
    """Say why a parameter is not taken.

    >>> _refusal("num_threads")
    '`extra.num_threads` is not allowed: threads come from `execute.threads` and never change the result'
    """
    if name in TreeParams.__struct_fields__:
        return f"`extra.{name}` has a place of its own: `params.{name}`"
    for reason, parts in _REFUSED.items():
        if any(part in name for part in parts):
            return f"`extra.{name}` is not allowed: {reason}"
    return f"`extra.{name}` is not allowed; allowed: {', '.join(sorted(EXTRA))}"


def prewarm() -> None:
    """Import LightGBM beside other work: it takes as long as reading a third of a million rows."""
    from .library import import_lightgbm  # noqa: PLC0415 - start-up

    import_lightgbm()


def build(params: LightGbmParams) -> Trainer:
    """Make the trainer."""
    from .trainer import LightGbmTrainer  # noqa: PLC0415 - start-up: planning needs neither numpy nor LightGBM

    return LightGbmTrainer(params)


def build_distributed(params: DistributedParams) -> Trainer:
    """Make the distributed trainer."""
    from .distributed_trainer import DistributedTrainer  # noqa: PLC0415 - start-up, as above

    return DistributedTrainer(params)


def components() -> tuple[Component, ...]:
    """Contribute the trainer."""
    doc = "gradient-boosted trees (LightGBM), bit for bit the same for any number of threads"
    apart = "the same on several Dask workers, for rows beyond one machine's memory"
    libraries = ("lightgbm", "numpy")
    return (
        Component("trainer", "lightgbm", LightGbmParams, build, libraries, doc, prewarm=prewarm),
        Component("trainer", "lightgbm_distributed", DistributedParams, build_distributed, libraries, apart),
    )
