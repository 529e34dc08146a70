"""The compiled values: what a source does to raw rows, and what each feature computes. Frozen, and plain JSON.

`compile_program` makes them; `compute`, `label`, `encoders` and `sources` evaluate them; the feature program ships
inside the model package. Prose is left out, so an edited description changes no digest. Durations are integer
microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TypeAlias, cast

import msgspec

from engine.errors import IntegrityError
from engine.features.syntax import Expression
from engine.keys import Json, digest
from engine.spec.features import Scalar

EVENT_TIME = "event_time"
PROGRAM_VERSION = 1
NUMERIC = frozenset({"bool", "i64", "f64"})


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="step", tag=str.lower):
    """Base of all steps: one output column, by name and type."""

    name: str
    type: str


class Formula(Step, frozen=True, kw_only=True):
    """A row expression over the frame's columns; a null result becomes `default`."""

    expr: Expression
    default: Scalar | None = None


class Lookup(Step, frozen=True, kw_only=True):
    """`column` of the latest visible row of `source` with the frame's key; `on` pairs source and frame columns."""

    source: str
    column: str
    on: tuple[tuple[str, str], ...]
    max_age: int | None = None
    default: Scalar | None = None


class Window(Step, frozen=True, kw_only=True):
    """`agg` of `of` over the visible rows of `[T - window, T)` that satisfy `where`; `empty` when there is no value.

    `decimals` is the scale at which sums are exact; it is 0 for integers and null for the other aggregates of doubles.
    One step is one column: `rank` says which of `last_k` and `top_k` (from 1), `bounds` which interval `[low, high)` of a
    histogram (null is open), `q` which quantile, `prior` and `weight` how a `smoothed_mean` is smoothed.
    `include_request` adds the row that is asked about, as the last of the total order.
    """

    source: str
    agg: str
    window: int
    on: tuple[tuple[str, str], ...]
    of: Expression | None = None
    of_type: str | None = None
    where: Expression | None = None
    decimals: int | None = None
    empty: Scalar | None = None
    include_request: bool = False
    q: float | None = None
    rank: int | None = None
    bounds: tuple[float | None, float | None] | None = None
    prior: float | None = None
    weight: float | None = None


class Encoded(Step, frozen=True, kw_only=True):
    """`column` as a number, fitted on training rows; `vocab` numbers values, `frequency` gives their share.

    `standardise` subtracts their mean and divides by their standard deviation; `bins` numbers quantile bins. What is not
    known, and null, is `unknown`.
    """

    column: str
    encoder: str
    min_count: int
    unknown: int | float | None
    bins: int | None = None


AnyStep: TypeAlias = Formula | Lookup | Window | Encoded


class SourceProgram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ingest does to raw rows (`declared`, `derive` in dependency order, `where`), and the columns that leave.

    In a feature program, `columns` holds only what the program reads, and `declared`, `derive`, `where` are empty.
    """

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]
    time: str | None = None
    id: str | None = None
    available_column: str | None = None
    delay: int = 0
    static: bool = False
    decimals: dict[str, int] = {}
    declared: dict[str, str] = {}
    derive: tuple[Formula, ...] = ()
    where: Expression | None = None

    def to_json(self) -> Json:
        """Plain JSON; `from_json` reads it back."""
        return cast("Json", msgspec.to_builtins(self))

    @staticmethod
    def from_json(document: Json) -> SourceProgram:
        """Read what `to_json` wrote; raises `IntegrityError`."""
        try:
            return msgspec.convert(document, SourceProgram)
        except msgspec.ValidationError as error:
            raise IntegrityError(f"not a source program: {error}") from error


class SpineProgram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rows to score: which source gives them in training, and the fields that a request carries."""

    source: str
    request: dict[str, str]
    where: Expression | None = None


class LabelProgram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is predicted: `expr` over the label source's row, joined by `on` (source column, spine column)."""

    source: str
    expr: Expression
    type: str
    on: tuple[tuple[str, str], ...]
    horizon: int | None
    maturity: int


class FeatureProgram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The one definition of the features, for training and for serving.

    `steps` are in dependency order; `order` is the order of declaration, which is the order of the output columns.
    """

    version: int = PROGRAM_VERSION
    spine: SpineProgram
    label: LabelProgram | None
    sources: dict[str, SourceProgram]
    steps: tuple[AnyStep, ...]
    order: tuple[str, ...]

    def to_json(self) -> Json:
        """Plain JSON, the same for equal programs; `from_json` reads it back."""
        return cast("Json", msgspec.to_builtins(self))

    @staticmethod
    def from_json(document: Json) -> FeatureProgram:
        """Read what `to_json` wrote; raises `IntegrityError` for another version or a damaged document."""
        try:
            program = msgspec.convert(document, FeatureProgram)
        except msgspec.ValidationError as error:
            raise IntegrityError(f"not a feature program: {error}") from error
        if program.version != PROGRAM_VERSION:
            raise IntegrityError(
                f"feature program version {program.version}; this engine evaluates version {PROGRAM_VERSION}",
                hint="use the engine version that the model package names",
            )
        return program

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON."""
        return digest(self.to_json())

    @cached_property
    def by_name(self) -> Mapping[str, AnyStep]:
        """Every step by its name."""
        return {step.name: step for step in self.steps}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Every feature, expanded, in order of declaration."""
        return self.order

    @cached_property
    def output_types(self) -> Mapping[str, str]:
        """The column type of every feature, in order of declaration."""
        return {name: self.by_name[name].type for name in self.order}

    @cached_property
    def computed_names(self) -> tuple[str, ...]:
        """The features that `compute` returns: all but the encoded ones, in order of declaration."""
        return tuple(name for name in self.order if not isinstance(self.by_name[name], Encoded))

    @cached_property
    def encoded_names(self) -> tuple[str, ...]:
        """The features that `encode` adds, in order of declaration."""
        return tuple(name for name in self.order if isinstance(self.by_name[name], Encoded))

    @cached_property
    def categorical_names(self) -> tuple[str, ...]:
        """The encoded features whose numbers are names: those of a vocabulary. Shares, scores and bins have an order."""
        steps = (self.by_name[name] for name in self.encoded_names)
        return tuple(step.name for step in steps if isinstance(step, Encoded) and step.encoder == "vocab")

    @property
    def source_names(self) -> tuple[str, ...]:
        """The sources that training reads, sorted: the features', the spine's and the label's."""
        return tuple(sorted(self.sources))

    @cached_property
    def feature_sources(self) -> tuple[str, ...]:
        """The sources that serving reads, sorted: those of lookups and windows."""
        return tuple(sorted({step.source for step in self.steps if isinstance(step, Lookup | Window)}))

    def source_columns(self, name: str) -> tuple[str, ...]:
        """The columns of a source that the program reads, in the source's order."""
        return tuple(self.sources[name].columns)

    def columns_behind(self, names: Iterable[str]) -> tuple[str, ...]:
        """The columns that `encode` needs to give these features: an encoded one's operand, any other itself."""
        steps = (self.by_name[name] for name in names)
        return tuple(dict.fromkeys(step.column if isinstance(step, Encoded) else step.name for step in steps))
