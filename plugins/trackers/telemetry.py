"""Tracker `opentelemetry`: a trace of the DAG, sent over OTLP after the run: one span a run, one a node, linked to its inputs.

Ids follow from the run, so that sending twice does not make two traces.
"""

from __future__ import annotations

from typing import Any

from engine.config import resolve_secret
from engine.contracts import MirroredRun
from engine.errors import UnavailableError
from engine.keys import digest

from . import TelemetryParams


class TelemetryTracker:
    """Sends spans of runs."""

    def __init__(self, params: TelemetryParams) -> None:
        self._params = params

    def mirror(self, run: MirroredRun) -> str:
        """Send a run's trace and give its id; raises `UnavailableError` when it was not taken."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - only here
            from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415
        except ImportError as error:
            hint = "pip install 'plumbline[telemetry]'"
            raise UnavailableError(f"opentelemetry cannot be imported: {error}", hint=hint) from error
        spans, trace = self._spans(run)
        headers = {name: resolve_secret(value) for name, value in self._params.headers.items()}
        exporter: Any = OTLPSpanExporter(
            endpoint=resolve_secret(self._params.endpoint), headers=headers, timeout=self._params.timeout
        )
        try:
            result = exporter.export(spans)
        except Exception as error:
            raise UnavailableError(f"{self._params.endpoint}: {type(error).__name__}: {error}") from error
        finally:
            exporter.shutdown()
        if result is not SpanExportResult.SUCCESS:
            raise UnavailableError(f"{self._params.endpoint} did not take the trace")
        return f"{trace:032x}"

    def _spans(self, run: MirroredRun) -> tuple[list[Any], int]:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
        from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags  # noqa: PLC0415

        record = run.record
        whole = digest({"project": run.project, "run": record.run_id, "at": record.started_at})
        trace, resource = int(whole[:32], 16), Resource.create({"service.name": self._params.service})

        def context(name: str) -> SpanContext:
            number = int(digest({"trace": whole, "span": name})[:16], 16) or 1
            return SpanContext(trace, number, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

        def nanoseconds(at: str | None, more: float = 0.0) -> int:
            return int((run.milliseconds(at) or 0) * 1_000_000 + more * 1e9)

        root = context("run")
        facts = {"plumbline.run": record.run_id, "plumbline.pipeline": record.pipeline, "plumbline.status": record.status,
                 "plumbline.verdict": record.verdict or "", "plumbline.model": record.model or ""}  # fmt: skip
        facts |= {f"plumbline.metric.{name}": str(value) for name, value in run.metrics.items()}
        bad = record.status in {"failed", "interrupted"}
        spans = [
            ReadableSpan(
                name=f"run {record.pipeline}", context=root, resource=resource, kind=SpanKind.INTERNAL, attributes=facts,
                start_time=nanoseconds(record.started_at), end_time=nanoseconds(record.finished_at or record.started_at),
                status=Status(StatusCode.ERROR if bad else StatusCode.OK, record.error if bad else None),
            )
        ]  # fmt: skip
        for node in record.nodes:
            if node.state not in {"ran", "failed", "cached"}:
                continue
            links = [Link(context(name)) for name in run.edges.get(node.name, ())]
            failed = node.state == "failed"
            begun = node.started_at or record.started_at
            spans.append(
                ReadableSpan(
                    name=node.name, context=context(node.name), parent=root, resource=resource, kind=SpanKind.INTERNAL, links=links,
                    attributes={"plumbline.kind": node.kind, "plumbline.state": node.state, "plumbline.key": node.key or "",
                                "plumbline.output": node.output.digest if node.output else "", "plumbline.reason": node.reason},
                    start_time=nanoseconds(begun), end_time=nanoseconds(begun, node.seconds),
                    status=Status(StatusCode.ERROR if failed else StatusCode.OK, node.error if failed else None),
                )
            )  # fmt: skip
        return spans, trace
