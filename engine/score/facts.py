"""What is known of a pipeline, gathered once: the declaration, its last whole run, its other runs, the registry, CI files.

Enters: a declared pipeline and its stores. Leaves: `Facts`, which the rubric reads and nothing else does. Whatever is
missing is empty: a project in which nothing has run has a score too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.analysis_records import AnalysisDocument
from engine.api import Declared
from engine.errors import EngineError
from engine.experiment_records import Reproduction
from engine.features.program import FeatureProgram
from engine.locations import Stores
from engine.model_records import CardFacts
from engine.production import read_card, read_json
from engine.recording import Documents
from engine.records import FeatureCaseResult, GateResult, LedgerEntry, ModelVersion, RunRecord
from engine.runs import list_folders, open_folder
from engine.spec import PipelineSpec

_RECENT = 50
# Where CI systems keep what they run.
_CI_FILES = (
    ".github/workflows/*.yml",
    ".github/workflows/*.yaml",
    ".gitlab-ci.yml",
    ".ci/*",
    "Jenkinsfile",
    "azure-pipelines.yml",
)
# What the closed loop writes down of a pipeline, by table: decisions of ticks, alerts, messages that were sent.
_LOOP = {
    "ticks": "SELECT COUNT(*) AS n FROM loop_ledger WHERE pipeline = ?",
    "alerts": "SELECT COUNT(*) AS n FROM monitor_alerts WHERE pipeline = ?",
    "messages": (
        "SELECT COUNT(*) AS n FROM monitor_deliveries JOIN monitor_alerts ON monitor_alerts.id = monitor_deliveries.alert "
        "WHERE monitor_alerts.pipeline = ? AND monitor_deliveries.state = 'delivered'"
    ),
}
_READ = "SELECT monitor, COUNT(*) AS n FROM monitor_readings WHERE pipeline = ? GROUP BY monitor"
_SECTIONS = ("gates", "analysis", "monitors", "triggers", "notifiers", "trackers")


@dataclass(frozen=True)
class Facts:
    """Evidence. `latest` is the last whole run of the pipeline; `declared` are kinds by section of the declaration.

    `looked` counts what the loop has written: readings by kind of monitor, and `ticks`, `alerts`, `messages`. `analyses` are
    the last ones of each kind, with the id of the run that made them; `reproduced` what `engine runs reproduce` found of the runs.
    """

    spec: PipelineSpec
    program: FeatureProgram
    declared: Mapping[str, frozenset[str]] = field(default_factory=dict)
    latest: RunRecord | None = None
    runs: Sequence[RunRecord] = ()
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    importance: Mapping[str, float] = field(default_factory=dict)
    cases: tuple[FeatureCaseResult, ...] = ()
    ledger: Sequence[LedgerEntry] = ()
    champion: ModelVersion | None = None
    package: Mapping[str, Any] = field(default_factory=dict)
    card: CardFacts = field(default_factory=CardFacts)
    ci_files: tuple[str, ...] = ()
    looked: Mapping[str, int] = field(default_factory=dict)
    analyses: Mapping[str, tuple[str, AnalysisDocument]] = field(default_factory=dict)
    sweeps: int = 0
    reproduced: Sequence[Reproduction] = ()

    def kinds(self, *sections: str) -> frozenset[str]:
        """Give the kinds that some sections declare."""
        return frozenset(kind for section in sections for kind in self.declared.get(section, ()))

    def gates(self, *kinds: str) -> list[GateResult]:
        """Give the last run's results of the gates of these kinds."""
        return [gate for gate in self.latest.gates if gate.kind in kinds] if self.latest else []

    def evaluated(self, section: str, kind: str) -> int:
        """Count how often something declared has been looked at: a monitor by its readings, a trigger by the ticks."""
        return self.looked.get(kind if section == "monitors" else "ticks", 0)


def gather(declared: Declared, stores: Stores) -> Facts:
    """Gather everything; a store that cannot be read leaves its part empty."""
    spec = declared.spec
    name = spec.registry.model or spec.name
    runs = _runs(stores, spec.name)
    latest = next((run for run in runs if run.status == "succeeded" and run.sample is None and run.gates), None)
    documents = Documents(stores.artefacts, {node.name: node for node in latest.nodes} if latest else {})
    found: dict[str, Any] = {}
    with suppress(EngineError):
        found["ledger"] = stores.registry.history(name)
        found["champion"] = stores.registry.alias(name, spec.registry.alias)
        found["looked"] = _looked(stores, spec)
        found["sweeps"] = len(
            {run.sweep for run in stores.index.list_runs() if run.pipeline == spec.name and run.sweep}
        )
    with suppress(EngineError):
        if found.get("champion") is not None:
            folder = stores.artefacts.open(found["champion"].digest)
            found["card"], found["package"] = read_card(folder), read_json(folder, "package.json")
    return Facts(
        spec=spec,
        program=declared.logical.program,
        declared=_declared(spec),
        latest=latest,
        analyses=_analyses(stores, runs),
        runs=runs,
        evaluation=documents.read("evaluate", "evaluation.json") or {},
        importance=documents.read("train", "importance.json") or {},
        cases=_run_cases(declared),
        reproduced=_reproduced(stores, runs),
        ci_files=_ci_files(declared.project.root),
        **found,
    )


def _runs(stores: Stores, pipeline: str) -> list[RunRecord]:
    """Give the pipeline's last runs, newest first."""
    found: list[RunRecord] = []
    for folder in reversed(list_folders(stores.runs_root)):
        with suppress(EngineError):
            record = folder.read_record()
            if record.pipeline == pipeline:
                found.append(record)
        if len(found) >= _RECENT:
            break
    return found


def _declared(spec: PipelineSpec) -> dict[str, frozenset[str]]:
    """Give the kinds of what is declared by name, for every section that has kinds; a rollout has none."""
    found: dict[str, frozenset[str]] = {}
    for section in _SECTIONS:
        items: Mapping[str, Any] = getattr(spec, section)
        if items:
            found[section] = frozenset(item.kind for item in items.values())
    return found | ({"rollout": frozenset({"declared"})} if spec.rollout is not None else {})


def _analyses(stores: Stores, runs: Sequence[RunRecord]) -> dict[str, tuple[str, AnalysisDocument]]:
    """Give the newest analysis of each kind among the last runs."""
    found: dict[str, tuple[str, AnalysisDocument]] = {}
    for run in runs:
        if run.sample is None and any(node.kind == "analysis" for node in run.nodes):
            for document in Documents(stores.artefacts, {node.name: node for node in run.nodes}).analyses().values():
                found.setdefault(document.kind, (run.run_id, document))
    return found


def _reproduced(stores: Stores, runs: Sequence[RunRecord]) -> list[Reproduction]:
    """Give what doing the last runs again found, oldest first; only of those that trained."""
    found = []
    for run in runs:
        if any(node.name == "train" for node in run.nodes):
            with suppress(EngineError):
                found += open_folder(stores.runs_root, run.run_id).read_reproductions()
    return sorted(found, key=lambda item: item.at)


def _run_cases(declared: Declared) -> tuple[FeatureCaseResult, ...]:
    if not declared.spec.tests:
        return ()
    from engine.features.case_runner import run_cases  # noqa: PLC0415 - imports polars

    return tuple(run_cases(declared.spec.tests, declared.logical.compiled))


def _looked(stores: Stores, spec: PipelineSpec) -> dict[str, int]:
    """Count what the loop has written down about the pipeline."""
    found = {what: int(stores.database.query(query, (spec.name,))[0]["n"]) for what, query in _LOOP.items()}
    for row in stores.database.query(_READ, (spec.name,)):
        monitor = spec.monitors.get(str(row["monitor"]))
        if monitor is not None:
            found[monitor.kind] = found.get(monitor.kind, 0) + int(row["n"])
    return found


def _ci_files(root: Path) -> tuple[str, ...]:
    """Name the CI files, here or above up to the repository's root, that run `engine ci`."""
    found = []
    for folder in (root, *root.parents):
        for pattern in _CI_FILES:
            for path in sorted(folder.glob(pattern)):
                with suppress(OSError, UnicodeDecodeError):
                    if path.is_file() and "engine ci" in path.read_text(encoding="utf-8"):
                        found.append(path.relative_to(folder).as_posix())
        if (folder / ".git").exists():
            break
    return tuple(found)
