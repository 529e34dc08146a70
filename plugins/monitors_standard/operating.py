"""Whether what serves is what was built, how old it is, and how it answers. Called through the catalogue."""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.durations import microseconds
from engine.errors import EngineError
from engine.online_records import ParityDifference, ParityReport
from engine.watch.observed import ROW_ID, Observed, Said, insufficient
from engine.watch_records import Finding

from . import ParityParams, ServiceParams, StalenessParams

_DAY = 86_400.0


class Parity:
    """Served features against the same ones computed again."""

    def __init__(self, params: ParityParams) -> None:
        self._params = params

    def read(self, observed: Observed) -> Said:
        """Compare bit by bit; `again` is what reads the prediction log with the chunk's rows."""
        again = observed.facts.get("again")
        if again is None or ROW_ID not in observed.rows.columns:
            return insufficient("nothing was served: the rows are not of a server's log")
        try:
            report = again.measure(observed.rows[ROW_ID], self._params.share, self._params.rows)
        except EngineError as error:
            return insufficient(f"nothing served could be computed again: {error.message}")
        if not report.compared:
            why = "; ".join(report.reasons) or "no request of the chunk is in the log"
            return insufficient(f"nothing served could be computed again: {why}")
        return self._judge(report)

    def _judge(self, report: ParityReport) -> Said:
        differing = {
            item.feature: (item.mismatches + item.missing + item.extra) / max(item.compared, 1)
            for item in report.features
        }
        bad = sorted(
            (name for name, share in differing.items() if share > self._params.max_differing),
            key=lambda n: -differing[n],
        )
        shown = {item.feature: item for item in reversed(report.differences)}
        found = tuple(
            Finding(name=name, status="alarm", component="parity", effect=differing[name],
                    words=_differs(name, differing[name], shown.get(name)))
            for name in bad
        )  # fmt: skip
        skipped = (
            f", {report.skipped} of {report.sampled} requests could not be computed again" if report.skipped else ""
        )
        words = "; ".join(item.words for item in found[:3]) or f"{len(differing)} features are the same, bit by bit"
        details = {
            "compared": report.compared,
            "sampled": report.sampled,
            "skipped": report.skipped,
            "reasons": dict(report.reasons),
        }
        worst = max(differing.values(), default=0.0)
        return Said(
            "alarm" if bad else "ok",
            words + skipped,
            worst,
            expected=self._params.max_differing,
            findings=found,
            details=details,
        )


def _differs(name: str, share: float, example: ParityDifference | None) -> str:
    words = f"{name}: {share:.2%} of served values differ from those computed again"
    return f"{words}, as {example.served} and {example.recomputed} of {example.prediction_id}" if example else words


class Staleness:
    """The age of the model."""

    def __init__(self, params: StalenessParams) -> None:
        self._params = params

    def read(self, observed: Observed) -> Said:
        """Compare the age of the newest training row at the chunk's end with the limit."""
        trained = observed.facts.get("trained_until")
        if trained is None:
            return insufficient("it is not known when the model was trained")
        age = (observed.end - trained).total_seconds() / _DAY
        limit = microseconds(self._params.max_age) / 1e6 / _DAY
        words = f"the newest training row is {age:.0f} days old, {limit:.0f} allowed"
        return Said("alarm" if age > limit else "ok", words, age, expected=limit)


class Service:
    """Latency and errors."""

    def __init__(self, params: ServiceParams) -> None:
        self._params = params

    def read(self, observed: Observed) -> Said:
        """Read what the log has of it."""
        rows, found = observed.rows, []
        value: float | None = None
        if "latency_ms" in rows.columns and rows.height:
            latency = rows["latency_ms"].cast(pl.Float64).drop_nulls().to_numpy()
            value = float(np.quantile(latency, self._params.quantile)) if len(latency) else None
            over = value is not None and value > self._params.max_latency_ms
            words = (
                f"latency at {self._params.quantile:g} is {value or 0:.0f} ms, {self._params.max_latency_ms:g} allowed"
            )
            found.append(Finding(name="latency_ms", status="alarm" if over else "ok", now=value, words=words))
        if "failed" in rows.columns and rows.height:
            share = float(np.mean(rows["failed"].cast(pl.Boolean).fill_null(value=False).to_numpy()))
            words = f"{share:.2%} of requests failed, {self._params.max_errors:.2%} allowed"
            over = share > self._params.max_errors
            found.append(Finding(name="failed", status="alarm" if over else "ok", now=share, words=words))
        if not found:
            return insufficient("the rows have neither `latency_ms` nor `failed`: they are not of a server's log")
        bad = [item for item in found if item.status == "alarm"]
        words = "; ".join(item.words for item in bad or found)
        return Said("alarm" if bad else "ok", words, value, findings=tuple(found))
