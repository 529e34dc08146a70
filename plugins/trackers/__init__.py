"""Trackers: MLflow, Weights & Biases, OpenTelemetry and OpenLineage, each told of a run after it has ended.

This module holds the parameters and imports no client; each client is imported by its own module, in the process that
sends (`engine runs sync`), never in the run's. Secrets are references (`${secret:NAME}`), resolved when connecting.
"""

from __future__ import annotations

from typing import Any, Literal

from engine.components import Component, Params


class MlflowParams(Params, frozen=True, kw_only=True):
    """An MLflow tracking server. `register` registers a promoted model under its name, with its alias.

    `token` (or `username` and `password`) is sent with each request; write it as `${secret:NAME}`.
    """

    uri: str
    experiment: str | None = None
    register: bool = True
    artefacts: bool = True
    token: str | None = None
    username: str | None = None
    password: str | None = None
    timeout: float = 20.0


class WandbParams(Params, frozen=True, kw_only=True):
    """Weights & Biases. `mode: offline` writes files that `wandb sync` sends later."""

    project: str | None = None
    entity: str | None = None
    mode: Literal["online", "offline"] = "online"
    base_url: str | None = None
    api_key: str | None = None
    folder: str = ".plumbline/wandb"
    artefacts: bool = True


class TelemetryParams(Params, frozen=True, kw_only=True):
    """An OTLP endpoint over HTTP (`http://host:4318/v1/traces`): a span a run, and one a node, with links to its inputs."""

    endpoint: str
    service: str = "plumbline"
    headers: dict[str, str] = {}
    timeout: float = 10.0


class LineageParams(Params, frozen=True, kw_only=True):
    """An OpenLineage endpoint (`http://host:5000/api/v1/lineage`), or a `file://` that events are appended to."""

    url: str
    namespace: str = "plumbline"
    api_key: str | None = None
    timeout: float = 10.0


def _mlflow(params: MlflowParams) -> Any:
    from .mlflow_tracker import MlflowTracker  # noqa: PLC0415 - a client's imports are the sender's

    return MlflowTracker(params)


def _wandb(params: WandbParams) -> Any:
    from .wandb_tracker import WandbTracker  # noqa: PLC0415

    return WandbTracker(params)


def _telemetry(params: TelemetryParams) -> Any:
    from .telemetry import TelemetryTracker  # noqa: PLC0415

    return TelemetryTracker(params)


def _lineage(params: LineageParams) -> Any:
    from .lineage import LineageTracker  # noqa: PLC0415

    return LineageTracker(params)


def components() -> tuple[Component, ...]:
    """Contribute the trackers."""
    return (
        Component(
            "tracker", "mlflow", MlflowParams, _mlflow, doc="runs, files and registered models on an MLflow server"
        ),
        Component("tracker", "wandb", WandbParams, _wandb, doc="runs and files at Weights & Biases, online or offline"),
        Component("tracker", "opentelemetry", TelemetryParams, _telemetry, doc="a trace of the DAG, over OTLP"),
        Component(
            "tracker", "openlineage", LineageParams, _lineage, doc="which data made which model, as OpenLineage events"
        ),
    )
