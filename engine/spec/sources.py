"""Sources as declared: where rows come from, what their columns mean in time, and what must hold of them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from engine.spec.base import ColumnType, Duration, Fraction, Identifier, NonNegativeInt, Prose, Spec, SqlText


class Available(Spec, frozen=True, kw_only=True):
    """When a row can first be known: a column that says so, or the event time plus a fixed delay.

    With `column`, a null there means that the row never becomes known.
    """

    column: Identifier | None = None
    delay: Duration = "0s"


class Expectation(Spec, frozen=True, kw_only=True):
    """What must hold of one column, or of the whole source when `column` is absent. Limits are inclusive.

    `severity: block` stops ingestion and quarantines the branch; `warn` is reported.
    """

    column: Identifier | None = None
    not_null: bool | None = None
    max_null_fraction: Fraction | None = None
    unique: bool | None = None
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] | None = None
    pattern: str | None = None
    expr: SqlText | None = None
    min_rows: NonNegativeInt | None = None
    references: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]\w*\.[A-Za-z_]\w*$")] | None = None
    min_match_fraction: Fraction = 1.0
    severity: Literal["block", "warn"] = "block"
    doc: Prose = ""


class SourceSpec(Spec, frozen=True, kw_only=True):
    """One source. In YAML the component's own parameters stand beside these keys; here they are `params`.

    `columns` declares the raw columns that are kept, with their types; `derive` adds columns by row expressions over
    them, in dependency order. `time`, `id` and `key` name columns of either kind. A source without `time` is a static
    dimension and says `static: true`. `decimals` gives the number of decimal places at which a float column is
    quantised, exactly and once, at ingest.
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
    expect: tuple[Expectation, ...] = ()
    repository: str = "data"
    branch: str = "main"
    ref: str | None = None
    doc: Prose = ""
    owner: Prose = ""
    tags: tuple[str, ...] = ()
