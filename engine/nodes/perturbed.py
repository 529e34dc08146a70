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
from engine.features.lowered_functions import DTYPES
from engine.features.lowering import evaluate, lower
from engine.features.program import EVENT_TIME, FeatureProgram
from engine.features.syntax import Expression
from engine.nodes.matrix import LoadedModel

Masks = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Subject:
    """The model under test, with what its features are computed from."""

    model: LoadedModel
    history: Mapping[str, pl.DataFrame]
    as_of: str | None
    variants: dict[frozenset[str], FeatureProgram] = field(default_factory=dict)

    @property
    def request(self) -> dict[str, str]:
        """What a caller gives, with types."""
        return {EVENT_TIME: "timestamp", **self.model.program.spine.request}

    @property
    def columns(self) -> dict[str, str]:
        """What a row is told by: the request, and the computed features."""
        program = self.model.program
        return {**self.request, **{name: program.output_types[name] for name in program.computed_names}}

    def features(self, asked: pl.DataFrame, given: Sequence[pl.Series] = ()) -> pl.DataFrame:
        """Compute the features of requests; those `given` are taken as they are, and others follow from them."""
        program = self._without(frozenset(series.name for series in given))
        spine = asked.select(*self.request).with_columns(given)
        made = compute(program, spine, self.history, as_of=self.as_of)
        return spine.hstack(made).select(*self.columns)

    def changed(self, rows: pl.DataFrame, change: Mapping[str, Expression], masks: Masks | None = None) -> pl.DataFrame:
        """Give the rows after a change, each by an expression over the row as it was; `masks` say in which rows."""
        types = self.columns
        values = evaluate(lower(change, types), rows.select(*types))
        new = {name: _as_type(values[name], types[name]) for name in change}
        if masks is not None:
            new = {name: found.zip_with(pl.Series(masks[name]), rows[name]) for name, found in new.items()}
        request = [found.alias(name) for name, found in new.items() if name in self.request]
        given = [found.alias(name) for name, found in new.items() if name not in self.request]
        return self.features(rows.with_columns(request), given)

    def score(self, rows: pl.DataFrame) -> np.ndarray:
        """Predict; (n,) or (n, k)."""
        return self.model.score(rows)

    def matching(self, rows: pl.DataFrame, where: Expression | None) -> np.ndarray:
        """Say which rows satisfy a condition, (n,) boolean; null does not."""
        if where is None:
            return np.ones(rows.height, dtype=bool)
        found = evaluate(lower({"where": where}, self.columns), rows.select(*self.columns))["where"]
        return found.fill_null(value=False).to_numpy()

    def _without(self, names: frozenset[str]) -> FeatureProgram:
        """Give the program in which some features are part of the request."""
        program = self.model.program
        if not names:
            return program
        if names not in self.variants:
            types = {name: program.output_types[name] for name in sorted(names)}
            self.variants[names] = msgspec.structs.replace(
                program,
                spine=msgspec.structs.replace(program.spine, request={**program.spine.request, **types}),
                steps=tuple(step for step in program.steps if step.name not in names),
                order=tuple(name for name in program.order if name not in names),
            )
        return self.variants[names]


def _as_type(values: pl.Series, type_: str) -> pl.Series:
    """Cast a number to the column's type; a fraction becomes the nearest whole number."""
    rounded = values.round() if type_ == "i64" and values.dtype == pl.Float64 else values
    return rounded.cast(DTYPES[type_])
