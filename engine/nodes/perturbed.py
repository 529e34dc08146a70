"""A model asked about rows that nobody had: request fields or features replaced, and everything after them computed anew.

Enters: a loaded model, the history at the run's snapshots, rows as the `features` node left them. Leaves: rows again,
and scores, from the model's own feature program. Called by the behaviour probe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import polars as pl

from engine.features.compute import compute
from engine.features.lineage import reads
from engine.features.lowered_functions import DTYPES
from engine.features.lowering import evaluate, lower
from engine.features.program import EVENT_TIME, Encoded, FeatureProgram, Lookup, Window
from engine.features.syntax import Expression
from engine.nodes.matrix import LoadedModel

Masks = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Subject:
    """The model under test, with what its features are computed from."""

    model: LoadedModel
    history: Mapping[str, pl.DataFrame]
    as_of: str | None
    variants: dict[tuple[str, ...], FeatureProgram] = field(default_factory=dict)

    @property
    def request(self) -> dict[str, str]:
        """What a caller gives, with types."""
        return {EVENT_TIME: "timestamp", **self.model.program.spine.request}

    @property
    def columns(self) -> dict[str, str]:
        """What a row is told by: the request, and the computed features."""
        program = self.model.program
        return {**self.request, **{name: program.output_types[name] for name in program.computed_names}}

    def features(self, asked: pl.DataFrame) -> pl.DataFrame:
        """Compute the features of requests."""
        spine = asked.select(*self.request)
        made = compute(self.model.program, spine, self.history, as_of=self.as_of)
        return spine.hstack(made).select(*self.columns)

    def with_values(self, rows: pl.DataFrame, values: Sequence[pl.Series]) -> pl.DataFrame:
        """Replace request fields or features, and compute anew what follows from them, and nothing else.

        A row's features depend on that row alone, so what does not read a replaced column keeps its bits.
        """
        names = frozenset(series.name for series in values)
        affected = self._affected(names)
        given = rows.with_columns(values)
        if not affected:
            return given
        kept = [name for name in self.columns if name not in affected]
        made = compute(self._variant(affected), given.select(kept), self.history, as_of=self.as_of)
        return given.with_columns(made[name] for name in affected)

    def changed(self, rows: pl.DataFrame, change: Mapping[str, Expression], masks: Masks | None = None) -> pl.DataFrame:
        """Give the rows after a change, each by an expression over the row as it was; `masks` say in which rows."""
        types = self.columns
        values = evaluate(lower(change, types), rows.select(*types))
        new = {name: _as_type(values[name], types[name]) for name in change}
        if masks is not None:
            new = {name: found.zip_with(pl.Series(masks[name]), rows[name]) for name, found in new.items()}
        return self.with_values(rows, [found.alias(name) for name, found in new.items()])

    def score(self, rows: pl.DataFrame) -> np.ndarray:
        """Predict; (n,) or (n, k)."""
        return self.model.score(rows)

    def matching(self, rows: pl.DataFrame, where: Expression | None) -> np.ndarray:
        """Say which rows satisfy a condition, (n,) boolean; null does not."""
        if where is None:
            return np.ones(rows.height, dtype=bool)
        found = evaluate(lower({"where": where}, self.columns), rows.select(*self.columns))["where"]
        return found.fill_null(value=False).to_numpy()

    def _affected(self, names: frozenset[str]) -> tuple[str, ...]:
        """Give the computed features that read one of these columns, directly or through others, but for these."""
        stale = set(names)
        for step in self.model.program.steps:  # in dependency order
            timed = EVENT_TIME in names and isinstance(step, Lookup | Window)
            if timed or (stale & set(reads(step)) and not isinstance(step, Encoded)):
                stale.add(step.name)
        return tuple(name for name in self.model.program.computed_names if name in stale - names)

    def _variant(self, affected: tuple[str, ...]) -> FeatureProgram:
        """Give the program that computes only these features, with all other columns as part of the request."""
        program = self.model.program
        if affected not in self.variants:
            given = {name: type_ for name, type_ in self.columns.items() if name not in (*affected, EVENT_TIME)}
            self.variants[affected] = msgspec.structs.replace(
                program,
                spine=msgspec.structs.replace(program.spine, request=given),
                steps=tuple(step for step in program.steps if step.name in affected),
                order=affected,
            )
        return self.variants[affected]


def _as_type(values: pl.Series, type_: str) -> pl.Series:
    """Cast a number to the column's type; a fraction becomes the nearest whole number."""
    rounded = values.round() if type_ == "i64" and values.dtype == pl.Float64 else values
    return rounded.cast(DTYPES[type_])
