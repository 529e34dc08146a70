"""Aggregates as declared: a name, or a one-key mapping with parameters; and the single columns that they stand for.

Enters `agg:` of a window feature; leaves one `AggregateColumn` a column, in the order of the declaration. Called by the
compiler and by the checks that need the names of features.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

import msgspec

from engine.spec.base import Fraction, Spec

PlainAggregate: TypeAlias = Literal["count", "sum", "mean", "std", "min", "max", "first", "last", "n_distinct"]
EXAMPLES = {
    "quantile": "{quantile: {q: 0.9}}",
    "last_k": "{last_k: {k: 3}}",
    "top_k": "{top_k: {k: 3}}",
    "histogram": "{histogram: {edges: [0, 10, 50]}}",
    "smoothed_mean": "{smoothed_mean: {prior: 0.01, weight: 20}}",
}
"""The aggregates that take parameters, as they are written."""
PARAMETERISED = tuple(EXAMPLES)


class Quantile(Spec, frozen=True, kw_only=True):
    """The value of nearest rank: at position max(1, ceil(q * n)) of the n values in rising order. One column each q."""

    q: Fraction | Annotated[tuple[Fraction, ...], msgspec.Meta(min_length=1, max_length=100)]


class RankedValues(Spec, frozen=True, kw_only=True):
    """`k` columns, `<name>_1` to `<name>_k`: the latest first, or the most frequent first."""

    k: Annotated[int, msgspec.Meta(ge=1, le=100)]


class Histogram(Spec, frozen=True, kw_only=True):
    """Counts below the first edge (`<name>_0`), from each edge up to the next, and from the last edge on."""

    edges: Annotated[tuple[float, ...], msgspec.Meta(min_length=1, max_length=100)]


class SmoothedMean(Spec, frozen=True, kw_only=True):
    """`(sum + prior * weight) / (count + weight)`: `prior` where there is no value yet, as if seen `weight` times."""

    prior: float
    weight: Annotated[float, msgspec.Meta(gt=0)]


class AggregateWith(Spec, frozen=True, kw_only=True):
    """An aggregate with its parameters: exactly one key, as in `{quantile: {q: 0.9}}`."""

    quantile: Quantile | None = None
    last_k: RankedValues | None = None
    top_k: RankedValues | None = None
    histogram: Histogram | None = None
    smoothed_mean: SmoothedMean | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The keys that are there."""
        return tuple(name for name in PARAMETERISED if getattr(self, name) is not None)


Aggregate: TypeAlias = PlainAggregate | AggregateWith


class AggregateColumn(msgspec.Struct, frozen=True, kw_only=True):
    """One column: `label` stands for `{agg}` in a name, `suffix` follows the whole name."""

    agg: str
    label: str
    suffix: str = ""
    q: float | None = None
    rank: int | None = None
    bounds: tuple[float | None, float | None] | None = None
    prior: float | None = None
    weight: float | None = None


def aggregates_of(agg: Aggregate | tuple[Aggregate, ...]) -> tuple[Aggregate, ...]:
    """One or several, as several."""
    return agg if isinstance(agg, tuple) else (agg,)


def columns_of_aggregate(agg: Aggregate) -> tuple[AggregateColumn, ...]:
    """The columns that one entry of `agg` stands for; none for a mapping that does not have exactly one key.

    >>> [column.label for column in columns_of_aggregate(AggregateWith(quantile=Quantile(q=(0.5, 0.999))))]
    ['quantile_50', 'quantile_99_9']
    >>> [column.label + column.suffix for column in columns_of_aggregate(AggregateWith(last_k=RankedValues(k=2)))]
    ['last_k_1', 'last_k_2']
    """
    if isinstance(agg, str):
        return (AggregateColumn(agg=agg, label=agg),)
    return tuple(_parameterised(agg)) if len(agg.given) == 1 else ()


def _parameterised(agg: AggregateWith) -> Iterator[AggregateColumn]:
    match agg:
        case AggregateWith(quantile=Quantile(q=q)):
            for one in q if isinstance(q, tuple) else (q,):
                yield AggregateColumn(agg="quantile", label=f"quantile_{_percent(one)}", q=float(one))
        case AggregateWith(last_k=RankedValues(k=k)):
            for rank in range(1, k + 1):
                yield AggregateColumn(agg="last_k", label="last_k", suffix=f"_{rank}", rank=rank)
        case AggregateWith(top_k=RankedValues(k=k)):
            for rank in range(1, k + 1):
                yield AggregateColumn(agg="top_k", label="top_k", suffix=f"_{rank}", rank=rank)
        case AggregateWith(histogram=Histogram(edges=edges)):
            limits = (None, *map(float, edges), None)
            for index, bounds in enumerate(pairwise(limits)):
                yield AggregateColumn(agg="histogram", label="histogram", suffix=f"_{index}", bounds=bounds)
        case AggregateWith(smoothed_mean=SmoothedMean(prior=prior, weight=weight)):
            yield AggregateColumn(agg="smoothed_mean", label="smoothed_mean", prior=float(prior), weight=float(weight))


def _percent(q: float) -> str:
    """A share in percent as part of a name: 0.5 is 50, 0.999 is 99_9."""
    shown = f"{(Decimal(repr(float(q))) * 100).normalize():f}"
    return shown.replace(".", "_")
