"""Whether what serves is what was built, how old it is, and how it answers. Called through the catalogue."""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.durations import microseconds
from engine.watch.observed import Observed, Said, insufficient
from engine.watch_records import Finding

from . import ParityParams, ServiceParams, StalenessParams

_DAY = 86_400.0


class Parity:
    """Served features against the same ones computed again."""

    def __init__(self, params: ParityParams) -> None:
        self._params = params

    def read(self, observed: Observed) -> Said:
        """Compare bit by bit; needs the rows computed again, which the prediction log's reader brings."""
        again: pl.DataFrame | None = observed.facts.get("computed_again")
        if again is None:
            return insufficient("nothing served was computed again (no prediction log, or no snapshot that reaches it)")
        names = [name for name in again.columns if name in observed.rows.columns]
        shares = {name: _differing(observed.rows[name], again[name]) for name in names}
        worst = max(shares.values(), default=0.0)
        bad = sorted(
            (name for name, share in shares.items() if share > self._params.max_differing), key=lambda n: -shares[n]
        )
        found = tuple(
            Finding(name=name, status="alarm", component="parity", effect=shares[name],
                    words=f"{name}: {shares[name]:.2%} of served values differ from those computed again")
            for name in bad
        )  # fmt: skip
        words = "; ".join(item.words for item in found[:3]) or f"{len(names)} features are the same, bit by bit"
        return Said("alarm" if bad else "ok", words, worst, findings=found)


def _differing(served: pl.Series, again: pl.Series) -> float:
    if len(served) != len(again) or not len(again):
        return 1.0
    return float(np.mean((~served.cast(again.dtype, strict=False).eq_missing(again)).to_numpy()))


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
            return insufficient("the log has neither `latency_ms` nor `failed`; the server's own metrics have both")
        bad = [item for item in found if item.status == "alarm"]
        words = "; ".join(item.words for item in bad or found)
        return Said("alarm" if bad else "ok", words, value, findings=tuple(found))
