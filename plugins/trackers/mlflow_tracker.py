"""Tracker `mlflow`: a run becomes an MLflow run, a promoted model a registered version with its alias. Idempotent by tag."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.config import resolve_secret
from engine.contracts import MirroredRun
from engine.errors import UnavailableError

from . import MlflowParams

_TAG = "plumbline.mark"
_MOST_PARAM = 6000  # characters of a parameter's value that a server takes
_STATES = {
    "succeeded": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "running": "RUNNING",
}


class MlflowTracker:
    """Mirrors runs to an MLflow server."""

    def __init__(self, params: MlflowParams) -> None:
        self._params = params

    def mirror(self, run: MirroredRun) -> str:
        """Create or complete the run's mirror and give its id there; raises `UnavailableError`."""
        try:
            import mlflow  # noqa: PLC0415 - only here
            from mlflow.exceptions import MlflowException  # noqa: PLC0415
        except ImportError as error:
            raise UnavailableError(
                f"mlflow cannot be imported: {error}", hint="pip install 'plumbline[mlflow]'"
            ) from error
        with self._environment():
            client = mlflow.MlflowClient(
                tracking_uri=resolve_secret(self._params.uri), registry_uri=resolve_secret(self._params.uri)
            )
            try:
                return self._mirror(client, run)
            except (MlflowException, OSError) as error:
                raise UnavailableError(f"MLflow at {self._params.uri}: {str(error).splitlines()[0][:300]}") from error

    def _mirror(self, client: Any, run: MirroredRun) -> str:
        from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415

        record = run.record
        experiment = self._experiment(client, self._params.experiment or record.pipeline)
        mark = f"{run.project}/{record.run_id}/{record.started_at}"
        known = client.search_runs([experiment], f"tags.`{_TAG}` = '{mark}'", max_results=1)
        started, ended = run.milliseconds(record.started_at), run.milliseconds(record.finished_at)
        if known:
            mirrored = known[0].info.run_id
        else:
            name = f"run {record.run_id}"
            mirrored = client.create_run(experiment, start_time=started, tags={_TAG: mark}, run_name=name).info.run_id
        at = ended or started or 0
        metrics = [Metric(name, value, at, 0) for name, value in run.metrics.items()]
        metrics += [Metric(event.node or "loss", event.value, at, event.step) for event in run.events
                    if event.event == "metric" and event.value is not None and event.step is not None]  # fmt: skip
        params = [Param(name, value[:_MOST_PARAM]) for name, value in run.params.items()]
        tags = [RunTag(name, value) for name, value in run.tags.items()]
        for start in range(0, max(len(params), 1), 100):
            client.log_batch(
                mirrored, metrics if not start else (), params[start : start + 100], tags if not start else ()
            )
        if self._params.artefacts:
            for path in run.files:
                client.log_artifact(mirrored, str(path))
        if self._params.register and record.model and record.promoted and run.package is not None:
            self._register(client, run, mirrored)
        client.set_terminated(mirrored, _STATES[record.status], end_time=ended)
        return str(mirrored)

    def _experiment(self, client: Any, name: str) -> str:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        known = client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def _register(self, client: Any, run: MirroredRun, mirrored: str) -> None:
        """Register the package once, as a version of the model, and point the alias at it."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        name, _, version = str(run.record.model).partition(":")
        known = client.search_registered_models(filter_string=f"name = '{name}'", max_results=1)
        if not known:
            client.create_registered_model(name)
        digest = str(run.record.model_digest)
        for found in client.search_model_versions(f"name = '{name}'"):
            if found.tags.get("plumbline.digest") == digest:
                client.set_registered_model_alias(name, run.alias, found.version)
                return
        client.log_artifacts(mirrored, str(run.package), "package")
        source = client.get_run(mirrored).info.artifact_uri + "/package"
        tags = {"plumbline.digest": digest, "plumbline.version": version}
        try:
            made = client.create_model_version(name, source, mirrored, tags=tags)
        except MlflowException as error:
            raise UnavailableError(f"MLflow did not register {run.record.model}: {error}") from error
        client.set_registered_model_alias(name, run.alias, made.version)

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """Set what the client takes from the environment only: credentials, and limits that keep a dead server from hanging us."""
        given = {"MLFLOW_TRACKING_TOKEN": self._params.token, "MLFLOW_TRACKING_USERNAME": self._params.username,
                 "MLFLOW_TRACKING_PASSWORD": self._params.password}  # fmt: skip
        wanted = {name: resolve_secret(value) for name, value in given.items() if value}
        wanted |= {
            "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{self._params.timeout:.0f}",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        }
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
