"""Features, spine and label as declared. Their meaning is design section 4; `engine.features` compiles them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from engine.spec.aggregates import Aggregate, aggregates_of, columns_of_aggregate
from engine.spec.base import ColumnType, Duration, Identifier, NonNegativeInt, Prose, Spec, SqlText

Reference: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z_]\w*\.[A-Za-z_]\w*$", description="source.column")
]
Scalar: TypeAlias = bool | int | float | str


class SpineSpec(Spec, frozen=True, kw_only=True):
    """The rows to score: `source` gives them in training; `request` is what a caller sends in serving, and no more.

    The source's `time` is the spine's event time, seen by expressions as `event_time`; its `id` names each row.
    """

    source: Identifier
    request: dict[Identifier, ColumnType]
    where: SqlText | None = None


class ExpressionFeature(Spec, frozen=True, kw_only=True):
    """A SQL scalar over request fields, `event_time` and other features."""

    expr: SqlText
    default: Scalar | None = None
    doc: Prose = ""
    owner: Prose = ""
    tags: tuple[str, ...] = ()


class LookupFeature(Spec, frozen=True, kw_only=True):
    """The latest visible row's column (`source.column`), or a static dimension's. `max_age` is inclusive.

    `on` maps the source's key columns to request fields or features; a key column that is absent maps to its own name.
    """

    lookup: Reference
    on: dict[Identifier, Identifier] = {}
    max_age: Duration | None = None
    default: Scalar | None = None
    doc: Prose = ""
    owner: Prose = ""
    tags: tuple[str, ...] = ()


class WindowFeature(Spec, frozen=True, kw_only=True):
    """Aggregates of visible rows in `[T - window, T)`. Several `agg` or `window` need `{agg}` or `{window}` in the name.

    `of` is a row expression over the source's columns; `by` names the key columns, the source's own `key` when absent;
    `on` maps them to request fields as in a lookup. `decimals` quantises a float `of`. An aggregate with parameters is a
    mapping of one key, as in `{quantile: {q: [0.5, 0.9]}}`. `include_request` counts the row that is asked about as one
    more row, the last of all; the source is then the spine's own, and `of` and `where` read request fields only.
    """

    source: Identifier = msgspec.field(name="from")
    of: SqlText | None = None
    agg: Aggregate | tuple[Aggregate, ...]
    window: Duration | tuple[Duration, ...]
    by: tuple[Identifier, ...] | Identifier | None = None
    on: dict[Identifier, Identifier] = {}
    where: SqlText | None = None
    decimals: Annotated[int, msgspec.Meta(ge=0, le=12)] | None = None
    include_request: bool = False
    empty: Scalar | None = None
    doc: Prose = ""
    owner: Prose = ""
    tags: tuple[str, ...] = ()


class EncodedFeature(Spec, frozen=True, kw_only=True):
    """A request field or feature as a number, fitted on training rows only and frozen with the model.

    `vocab` numbers the values seen at least `min_count` times by falling frequency, `frequency` gives each of them its
    share of the training rows, `standardise` subtracts the mean and divides by the standard deviation, `bins` numbers
    that many quantile bins. What was not seen, and null, is `unknown`: -1, and null for `standardise`.
    """

    encode: Identifier
    encoder: Literal["vocab", "frequency", "standardise", "bins"] = msgspec.field(name="with", default="vocab")
    min_count: NonNegativeInt | None = None
    bins: Annotated[int, msgspec.Meta(ge=2, le=1000)] | None = None
    unknown: int | float | None = None
    doc: Prose = ""
    owner: Prose = ""
    tags: tuple[str, ...] = ()


FeatureSpec: TypeAlias = ExpressionFeature | LookupFeature | WindowFeature | EncodedFeature

# The key that tells which of the four a mapping is.
FEATURE_KINDS: dict[str, type[ExpressionFeature | LookupFeature | WindowFeature | EncodedFeature]] = {
    "expr": ExpressionFeature,
    "lookup": LookupFeature,
    "from": WindowFeature,
    "encode": EncodedFeature,
}


def expanded_names(declared: str, feature: FeatureSpec) -> tuple[str, ...]:
    """The names of the columns that a declared feature stands for, in order.

    >>> expanded_names("v_{agg}_{window}", WindowFeature(source="s", of="v", agg=("min", "max"), window="1d"))
    ('v_min_1d', 'v_max_1d')
    """
    if not isinstance(feature, WindowFeature):
        return (declared,)
    columns = [column for agg in aggregates_of(feature.agg) for column in columns_of_aggregate(agg)]
    windows = (feature.window,) if isinstance(feature.window, str) else feature.window
    return tuple(
        declared.replace("{agg}", column.label).replace("{window}", window) + column.suffix
        for column in columns
        for window in windows
    )


class LabelSpec(Spec, frozen=True, kw_only=True):
    """What is predicted: `expr` over the label source's row, joined to the spine row by `on` (the ids when absent).

    A label event counts when it lies in `[T, T + horizon]`; a label is usable once `T + maturity` has passed and the
    event is known. `horizon: null` admits any event at or after T.
    """

    source: Identifier = msgspec.field(name="from")
    expr: SqlText
    on: dict[Identifier, Identifier] = {}
    horizon: Duration | None = None
    maturity: Duration = "0s"
    doc: Prose = ""
