"""Sources as declared: where rows come from, what their columns mean in time, and what must hold of them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from engine.spec.base import (
    ColumnType,
    Duration,
    Fraction,
    Identifier,
    NonNegativeInt,
    PositiveInt,
    Prose,
    Spec,
    SqlText,
)


class Available(Spec, frozen=True, kw_only=True):
    """When a row can first be known: a column that says so, or the event time plus a fixed delay.

    With `column`, a null there means that the row never becomes known.
    """

    column: Identifier | None = None
    delay: Duration = "0s"


class DistributionLimit(Spec, frozen=True, kw_only=True):
    """How far a column may move from the last good snapshot, as a magnitude and not as a p-value.

    `psi` is the population stability index over ten quantile bins of the last good snapshot (values of text and booleans
    are bins of their own), `ks` the largest distance between the two distribution functions (numbers and times only).
    Fewer than `min_rows` rows on either side say nothing, and pass.
    """

    measure: Literal["psi", "ks"] = "psi"
    threshold: Annotated[float, msgspec.Meta(gt=0)] = 0.2
    min_rows: PositiveInt = 1000


class Expectation(Spec, frozen=True, kw_only=True):
    """What must hold of one column, or of the whole source when `column` is absent. Limits are inclusive.

    `severity: block` stops the run and keeps everything that was read on a quarantined branch; `quarantine` sets the rows
    aside that fail and goes on with the others; `warn` is reported. `max_row_loss`, `max_row_gain` and `distribution`
    compare with the last good snapshot; a first one has nothing to compare with, and passes. `increasing` and `past` are
    about times: each not before the one in the row above, and none in the future. `freshness` is how old the newest may be.
    """

    column: Identifier | None = None
    not_null: bool | None = None
    max_null_fraction: Fraction | None = None
    unique: bool | None = None
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] | None = None
    pattern: str | None = None
    increasing: bool | None = None
    past: bool | None = None
    freshness: Duration | None = None
    expr: SqlText | None = None
    min_rows: NonNegativeInt | None = None
    max_row_loss: Fraction | None = None
    max_row_gain: Annotated[float, msgspec.Meta(ge=0)] | None = None
    distribution: DistributionLimit | None = None
    references: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]\w*\.[A-Za-z_]\w*$")] | None = None
    min_match_fraction: Fraction = 1.0
    severity: Literal["block", "quarantine", "warn"] = "block"
    doc: Prose = ""


class SourceSpec(Spec, frozen=True, kw_only=True):
    """One source. In YAML the component's own parameters stand beside these keys; here they are `params`.

    `columns` declares the raw columns that are kept, with their types; `derive` adds columns by row expressions over
    them, in dependency order. `time`, `id` and `key` name columns of either kind. A source without `time` is a static
    dimension and says `static: true`. `decimals` gives the number of decimal places at which a float column is
    quantised, exactly and once, at ingest. `partition` splits the snapshot by the event time; with `incremental`, only
    those parts of the source (files, say) are read that changed, and only those partitions are audited and written.
    """

    kind: Identifier
    params: msgspec.Struct
    columns: dict[Identifier, ColumnType]
    derive: dict[Identifier, SqlText] = {}
    key: tuple[Identifier, ...]
    time: Identifier | None = None
    id: Identifier | None = None
    available: Available = Available()
    static: bool = False
    decimals: dict[Identifier, Annotated[int, msgspec.Meta(ge=0, le=12)]] = {}
    where: SqlText | None = None
    partition: Literal["none", "day", "month", "year"] = "none"
    incremental: bool = False
    expect: tuple[Expectation, ...] = ()
    repository: str = "data"
    branch: str = "main"
    ref: str | None = None
    doc: Prose = ""
    owner: Prose = ""
    tags: tuple[str, ...] = ()
