"""Rows of the server's log to monitor, with the labels that came, and the means to compute them again.

Enters: a declaration, the stores, a version. Leaves: rows, and facts about them: labels that fit no row, how to measure parity.
Called by `observations`. Parity is measured chunk by chunk, when the monitor asks: it reads snapshots, which not every
monitoring run needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from engine.api import Declared
from engine.locations import Stores
from engine.records import ModelVersion
from engine.watch.observed import KNOWN_AT, LABEL, PREDICTION, ROW_ID

if TYPE_CHECKING:
    from engine.online_records import ParityReport
    from engine.parity import Replayer

_MILLISECOND = 1000.0


@dataclass
class Again:
    """Computes logged rows again, from the commits that the state held when it answered; opened when first asked."""

    declared: Declared
    stores: Stores
    version: ModelVersion
    logged: pl.DataFrame
    _replayer: Replayer | None = field(default=None, init=False)

    def measure(self, ids: pl.Series, share: float, most: int) -> ParityReport:
        """Compare the rows of these ids; raises `EngineError` when the package or the snapshots cannot be opened."""
        from engine.parity import Logged, measure_parity  # noqa: PLC0415 - start-up time

        replayer = self._replayer = self._replayer or self._open()
        rows = self.logged.filter(pl.col("prediction_id").is_in(ids.implode()))
        return measure_parity(Logged(replayer.served, rows, share, most), replayer)

    def _open(self) -> Replayer:
        from engine.online.materialise import Published  # noqa: PLC0415 - start-up time
        from engine.parity import Replayer, read_journal  # noqa: PLC0415 - as above
        from engine.serve.package import open_served  # noqa: PLC0415 - as above

        project, sources = self.declared.project, self.declared.spec.sources
        places = {name: Published(item.repository, item.ref or item.branch) for name, item in sources.items()}
        served = open_served(self.stores.artefacts, self.version, project.root)
        wanted = {name: places[name] for name in served.program.feature_sources if name in places}
        journal = read_journal(project.home / "events" / self.version.name)
        return Replayer(served, self.stores.open_snapshots(), wanted, journal)


def read_log(declared: Declared, stores: Stores, version: ModelVersion) -> tuple[pl.DataFrame, dict[str, Any]] | None:
    """Read what the server answered with one version, and the labels that came; `None` when it never answered."""
    from engine.serve.feedback import current_labels, read_feedback  # noqa: PLC0415 - start-up time
    from engine.serve.prediction_log import read_predictions  # noqa: PLC0415 - as above

    home = declared.project.home
    served = read_predictions(home / "predictions", version.name, version.digest)
    if not served.height:
        return None
    facts: dict[str, Any] = {"again": Again(declared, stores, version, served)}
    rows = flat(served)
    labels = read_feedback(home / "feedback", version.name)
    if labels.height:
        current = current_labels(labels).select(pl.col("prediction_id").alias(ROW_ID), LABEL, "received_at")
        facts["unknown_labels"] = current.join(rows, on=ROW_ID, how="anti").height
        revised = labels.group_by("prediction_id").agg(pl.col(LABEL).n_unique().alias("n")).filter(pl.col("n") > 1)
        rows = rows.join(current.rename({"received_at": KNOWN_AT}), on=ROW_ID, how="left", maintain_order="left")
        facts["contradicting_labels"] = revised.height
    return rows, facts


def flat(served: pl.DataFrame) -> pl.DataFrame:
    """Give logged rows as monitors read them: request and inputs side by side, `latency_ms` and `failed`.

    A request's own field is kept where an input has its name. Failed are rows that got no finite score; a request without
    any answer is not in the log, and is counted by the server's metrics.
    """
    request = served["request"].struct.unnest()
    features = served["features"].struct.unnest().fill_nan(None)
    more = [item for item in features.iter_columns() if item.name not in request.columns]
    rows = served.drop("request", "features", "outputs", strict=False).hstack([*request.iter_columns(), *more])
    rows = rows.rename({"prediction_id": ROW_ID, "score": PREDICTION})
    rows = rows.with_columns((~pl.col(PREDICTION).is_finite()).fill_null(value=True).alias("failed"))
    if "took" in rows.columns:
        rows = rows.with_columns((pl.col("took") / _MILLISECOND).alias("latency_ms")).drop("took")
    return rows
