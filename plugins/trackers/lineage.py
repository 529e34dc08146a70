"""Tracker `openlineage`: a job a node, its inputs and outputs as datasets with versions, sent as OpenLineage events."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from engine.clock import isoformat
from engine.config import resolve_secret
from engine.contracts import MirroredRun
from engine.errors import UnavailableError
from engine.keys import digest
from engine.records import NodeResult

from . import LineageParams

_PRODUCER = "https://github.com/plumbline"
_SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACET = "https://openlineage.io/spec/facets/1-0-1/"


class LineageTracker:
    """Sends lineage of runs; the standard library is client enough for one POST an event."""

    def __init__(self, params: LineageParams) -> None:
        self._params = params

    def mirror(self, run: MirroredRun) -> str:
        """Send every event of a run and give its id; raises `UnavailableError`."""
        url = resolve_secret(self._params.url)
        events = list(self.events(run))
        if url.startswith("file://"):
            path = Path(url.removeprefix("file://"))
            try:
                with path.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(event) + "\n" for event in events)
            except OSError as error:
                raise UnavailableError(f"{path}: {error.strerror}") from error
        else:
            for event in events:
                self._post(url, event)
        return _run_id(run, "run")

    def events(self, run: MirroredRun) -> Iterator[dict[str, Any]]:
        """Give START and COMPLETE (or FAIL) of the run and of each node that ran."""
        record = run.record
        bad = record.status in {"failed", "interrupted"}
        yield self._event(run, "run", "START", record.started_at)
        for node in record.nodes:
            if node.state in {"ran", "failed"}:
                begun = node.started_at or record.started_at
                yield self._event(run, node.name, "START", begun, node)
                end = isoformat(datetime.fromisoformat(begun) + timedelta(seconds=node.seconds))
                yield self._event(run, node.name, "FAIL" if node.state == "failed" else "COMPLETE", end, node)
        yield self._event(run, "run", "FAIL" if bad else "COMPLETE", record.finished_at or record.started_at)

    def _event(self, run: MirroredRun, name: str, kind: str, at: str, node: NodeResult | None = None) -> dict[str, Any]:
        record, space = run.record, self._params.namespace
        job = record.pipeline if node is None else f"{record.pipeline}.{name}"
        facets: dict[str, Any] = {}
        if node is not None:
            parent = {"run": {"runId": _run_id(run, "run")}, "job": {"namespace": space, "name": record.pipeline}}
            facets["parent"] = {**_facet("ParentRunFacet"), **parent}
        error = (node.error if node else record.error) if kind == "FAIL" else None
        if error:
            facets["errorMessage"] = {
                **_facet("ErrorMessageRunFacet"),
                "message": error,
                "programmingLanguage": "python",
            }
        return {
            "eventType": kind, "eventTime": at, "producer": _PRODUCER, "schemaURL": _SCHEMA,
            "run": {"runId": _run_id(run, name), "facets": facets},
            "job": {"namespace": space, "name": job, "facets": {}},
            "inputs": self._inputs(run, node), "outputs": self._outputs(run, node),
        }  # fmt: skip

    def _inputs(self, run: MirroredRun, node: NodeResult | None) -> list[dict[str, Any]]:
        if node is None:
            return [self._snapshot(pin.repository, pin.source, pin.commit) for pin in run.record.snapshots]
        outputs = {item.name: item.output.digest for item in run.record.nodes if item.output}
        return [self._dataset(run, name, outputs.get(name)) for name in run.edges.get(node.name, ())]

    def _outputs(self, run: MirroredRun, node: NodeResult | None) -> list[dict[str, Any]]:
        if node is not None:
            return [self._dataset(run, node.name, node.output.digest)] if node.output else []
        return [self._dataset(run, run.record.model, run.record.model_digest)] if run.record.model else []

    def _dataset(self, run: MirroredRun, name: str, version: str | None) -> dict[str, Any]:
        facets = {"version": {**_facet("DatasetVersionDatasetFacet"), "datasetVersion": version}} if version else {}
        return {"namespace": self._params.namespace, "name": f"{run.record.pipeline}/{name}", "facets": facets}

    def _snapshot(self, repository: str, source: str, commit: str) -> dict[str, Any]:
        facets = {"version": {**_facet("DatasetVersionDatasetFacet"), "datasetVersion": commit}}
        return {"namespace": self._params.namespace, "name": f"{repository}/{source}", "facets": facets}

    def _post(self, url: str, event: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/json"}
        if self._params.api_key:
            headers["Authorization"] = f"Bearer {resolve_secret(self._params.api_key)}"
        request = urllib.request.Request(url, json.dumps(event).encode(), headers)  # noqa: S310 - the project's own setting
        try:
            with urllib.request.urlopen(request, timeout=self._params.timeout) as answer:  # noqa: S310
                answer.read()
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise UnavailableError(f"{self._params.url}: {error}") from error


def _run_id(run: MirroredRun, name: str) -> str:
    """Give the same UUID for the same node of the same run, so that sending twice is sending once."""
    made = digest({"project": run.project, "run": run.record.run_id, "at": run.record.started_at, "node": name})
    return str(UUID(made[:32], version=5))


def _facet(name: str) -> dict[str, str]:
    return {"_producer": _PRODUCER, "_schemaURL": f"{_FACET}{name}.json"}
