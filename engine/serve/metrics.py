"""What a server tells Prometheus. One registry a process; with several workers the library adds them up through files.

Called by the application on every answer, and by `GET /metrics`.
"""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from engine.serve.scorer import STAGES

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 10_000)
ROUTES = ("/predict", "/events", "/feedback", "/healthz", "/readyz", "/metrics", "/openapi.json", "/", "/docs", "other")


class Metrics:
    """The measures by name. Children with labels are made beforehand, since looking one up costs more than counting."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def histogram(name: str, words: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()) -> Any:
            return Histogram(f"plumbline_{name}", words, labels, buckets=buckets, registry=self.registry)

        def counter(name: str, words: str, labels: tuple[str, ...] = ()) -> Any:
            return Counter(f"plumbline_{name}", words, labels, registry=self.registry)

        def gauge(name: str, words: str, labels: tuple[str, ...] = (), mode: Any = "livesum") -> Any:
            return Gauge(f"plumbline_{name}", words, labels, registry=self.registry, multiprocess_mode=mode)

        seconds = histogram("request_seconds", "time from the whole request to its answer", _SECONDS, ("route",))
        self.seconds = {route: seconds.labels(route) for route in ROUTES}
        self.requests = counter("requests", "requests by route and status", ("route", "status"))
        self._answered: dict[tuple[str, int], Any] = {}
        self.batch_rows = histogram("batch_rows", "rows scored together", _ROWS)
        stages = histogram("stage_seconds", "time of a batch in each stage", _SECONDS, ("stage",))
        self.stages = {stage: stages.labels(stage) for stage in STAGES}
        self.predictions = counter("predictions", "rows answered", ("model", "version", "arm"))
        self.no_score = counter("predictions_without_score", "rows for which the model gave no finite number")
        self.failures = counter("scoring_failures", "requests that could not be scored")
        self.queued = gauge("queued_rows", "rows waiting for a batch")
        self.log_rows = counter("log_rows", "rows written to the prediction log")
        self.log_dropped = counter("log_dropped_rows", "rows that the prediction log had to drop")
        self.log_unsynced = gauge("log_unsynced_bytes", "bytes of the log that would be lost with the power")
        self.events = counter("events", "pushed events by source and outcome", ("source", "outcome"))
        self.labels = counter("feedback_labels", "labels received")
        self.takeovers = counter("takeovers", "new versions, by what became of them", ("outcome",))
        self.model = gauge(
            "model_info", "the models being served", ("model", "version", "package", "program", "arm"), "max"
        )
        self.shadow_dropped = counter("shadow_dropped_rows", "rows that shadow challengers did not score")

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        route = path if path in self.seconds else "other"
        self.seconds[route].observe(seconds)
        counter = self._answered.get((route, status))
        if counter is None:
            counter = self._answered[route, status] = self.requests.labels(route, status)
        counter.inc()

    def render(self) -> bytes:
        """Text for Prometheus."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
