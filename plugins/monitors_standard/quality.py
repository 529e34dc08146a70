"""Whether the data of a chunk is sound, whatever its distribution. Called through the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from engine.clock import to_microseconds
from engine.durations import microseconds
from engine.watch.compare import describe
from engine.watch.observed import LABEL, PLAIN, PREDICTION, ROW_ID, TIME, Observed, Said
from engine.watch.performance import Measured, against
from engine.watch_records import Finding

from . import QualityParams

_COMPONENTS = ("nulls", "not_finite", "unseen", "new_value", "range", "cardinality")


class Quality:
    """Schema, nulls, ranges, values, duplicates, order, volume, freshness, references, labels."""

    def __init__(self, params: QualityParams) -> None:
        self._params = params

    def read(self, observed: Observed) -> Said:
        """Collect what is wrong; every check stands by itself."""
        found: list[Finding] = []
        for check in (
            self._schema,
            self._compared,
            self._limits,
            self._rows,
            self._volume,
            self._labels,
            self._references,
        ):
            try:
                found += check(observed)
            except (pl.exceptions.PolarsError, ValueError, TypeError, OSError) as error:
                words = f"{check.__name__.strip('_')}: could not be checked: {type(error).__name__}: {error}"
                found.append(Finding(name=check.__name__.strip("_"), status="broken", words=words.splitlines()[0]))
        bad = [item for item in found if item.status in {"alarm", "broken"}]
        words = "; ".join(item.words for item in bad[:4]) or f"{observed.rows.height} rows, nothing wrong"
        return Said("alarm" if bad else "ok", words, float(len(bad)), findings=tuple(bad or found))

    def _schema(self, observed: Observed) -> Iterator[Finding]:
        for item in observed.comparison.columns:
            if item.status == "broken":
                yield Finding(
                    name=item.column, status="alarm", component="schema", words=f"{item.column}: {item.words}"
                )
        for name, kind in observed.profile.extra.items():
            if name not in PLAIN and name not in observed.facts.get("known_columns", ()):
                yield Finding(name=name, status="ok", component="schema", words=f"{name}: a new column ({kind})")

    def _compared(self, observed: Observed) -> Iterator[Finding]:
        for item in observed.comparison.columns:
            if item.status != "alarm":
                continue
            part = next((part for part in item.parts if part.name in _COMPONENTS and abs(part.effect) >= 0.05), None)
            if part is not None and part.tail <= observed.rules.level / max(len(observed.comparison.columns), 1):
                yield Finding(
                    name=item.column, status="alarm", adjusted=item.adjusted, effect=abs(part.effect), component=part.name,
                    words=describe(item.column, part), before=part.before, now=part.now,
                )  # fmt: skip

    def _limits(self, observed: Observed) -> Iterator[Finding]:
        rows = observed.rows
        for name, (low, high) in self._params.ranges.items():
            values = rows[name].cast(pl.Float64) if name in rows.columns else pl.Series(dtype=pl.Float64)
            outside = (values < low if low is not None else False) | (values > high if high is not None else False)
            count = int(outside.sum()) if isinstance(outside, pl.Series) else 0
            if count:
                yield _bad(name, "range", f"{name}: {count} rows outside {low} to {high}")
        for name, allowed in self._params.values.items():
            values = rows[name].cast(pl.String).drop_nulls() if name in rows.columns else pl.Series(dtype=pl.String)
            strange = values.filter(~values.is_in(allowed))
            if len(strange):
                yield _bad(name, "values", f"{name}: {len(strange)} rows with a value not allowed, as {strange[0]!r}")
        for name, most in self._params.max_nulls.items():
            share = rows[name].null_count() / max(rows.height, 1) if name in rows.columns else 1.0
            if share > most:
                yield _bad(name, "nulls", f"{name}: {share:.1%} nulls, at most {most:.1%} allowed")

    def _rows(self, observed: Observed) -> Iterator[Finding]:
        rows = observed.rows
        if ROW_ID in rows.columns and rows.height:
            share = 1.0 - rows[ROW_ID].n_unique() / rows.height
            if share > self._params.max_duplicates:
                yield _bad(ROW_ID, "duplicates", f"{share:.2%} of rows repeat a row id")
        if observed.facts.get("unordered"):
            count = observed.facts["unordered"]
            yield Finding(
                name=TIME, status="ok", component="order", words=f"{count} rows came out of order; sorted by time"
            )
        if self._params.max_age is not None and rows.height:
            newest = rows[TIME].cast(pl.Int64).to_numpy().max()
            limit = microseconds(self._params.max_age)
            age = (to_microseconds(observed.now) - int(newest)) / 1e6
            if age * 1e6 > limit:
                yield _bad(
                    TIME,
                    "freshness",
                    f"the newest row is {age / 3600:.1f} h old, at most {self._params.max_age} allowed",
                )

    def _volume(self, observed: Observed) -> Iterator[Finding]:
        volumes = observed.facts.get("volumes", ())
        if not self._params.volume or len(volumes) < 5:
            return
        verdict = against(
            Measured(float(np.log1p(observed.rows.height)), 0.02, 1),
            [Measured(float(np.log1p(item)), 0.02, 1) for item in volumes],
        )
        usual = float(np.median(volumes))
        if verdict and verdict.tail < 0.001 and abs(observed.rows.height - usual) > 0.2 * usual:
            yield _bad("rows", "volume", f"{observed.rows.height} rows, usually {usual:.0f}")

    def _labels(self, observed: Observed) -> Iterator[Finding]:
        if observed.facts.get("unknown_labels"):
            yield _bad(LABEL, "labels", f"{observed.facts['unknown_labels']} labels for ids that were never scored")
        if observed.facts.get("contradicting_labels"):
            count = observed.facts["contradicting_labels"]
            yield _bad(LABEL, "labels", f"{count} rows have labels that contradict each other; the last counts")
        if PREDICTION in observed.rows.columns:
            wrong = int((~observed.rows[PREDICTION].cast(pl.Float64).is_finite()).fill_null(value=True).sum())
            if wrong:
                yield _bad(PREDICTION, "not_finite", f"{wrong} rows have no finite prediction")

    def _references(self, observed: Observed) -> Iterator[Finding]:
        for name, target in self._params.references.items():
            file, _, column = target.partition("#")
            path = Path(observed.facts.get("root", ".")) / file
            known = (pl.scan_parquet(path) if path.suffix == ".parquet" else pl.scan_csv(path)).select(column or name)
            keys = known.collect().to_series().cast(pl.String).unique()
            values = observed.rows[name].cast(pl.String).drop_nulls()
            share = float(np.mean(values.is_in(keys.implode()).to_numpy())) if len(values) else 1.0
            if share < self._params.min_match:
                yield _bad(
                    name,
                    "references",
                    f"{name}: {share:.1%} of values are in {target}, {self._params.min_match:.1%} needed",
                )


def _bad(name: str, component: str, words: str) -> Finding:
    return Finding(name=name, status="alarm", component=component, words=words)
