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

from engine.api import Declared
from engine.errors import EngineError
from engine.features.program import FeatureProgram
from engine.locations import Stores
from engine.model_records import CardFacts
from engine.production import read_card, read_json
from engine.recording import Documents
from engine.records import FeatureCaseResult, GateResult, LedgerEntry, ModelVersion, RunRecord
from engine.runs import list_folders
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
# Tables in which the engine's own loops write what they have looked at.
_LOOP_TABLES = ("loop_ledger", "monitor_readings", "readings")


@dataclass(frozen=True)
class Facts:
    """Evidence. `latest` is the last whole run of the pipeline; `declared` are kinds by section of the declaration."""

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
    sweeps: int = 0

    def kinds(self, *sections: str) -> frozenset[str]:
        """Give the kinds that some sections declare."""
        return frozenset(kind for section in sections for kind in self.declared.get(section, ()))

    def gates(self, *kinds: str) -> list[GateResult]:
        """Give the last run's results of the gates of these kinds."""
        return [gate for gate in self.latest.gates if gate.kind in kinds] if self.latest else []

    @property
    def loop_ran(self) -> bool:
        """Whether the closed loop has looked at this pipeline at all."""
        return any(self.looked.values())


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
        found["looked"] = _looked(stores, spec.name)
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
        declared=_declared(declared),
        latest=latest,
        runs=runs,
        evaluation=documents.read("evaluate", "evaluation.json") or {},
        importance=documents.read("train", "importance.json") or {},
        cases=_run_cases(declared),
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


def _declared(declared: Declared) -> dict[str, frozenset[str]]:
    """Give the kinds of what is declared by name, for every section of the configuration that has kinds."""
    sections: dict[str, frozenset[str]] = {}
    for section, content in declared.config.values.items():
        if not isinstance(content, Mapping):
            continue
        kinds = [item["kind"] for item in content.values() if isinstance(item, Mapping) and "kind" in item]
        kinds += [str(content["kind"])] if "kind" in content else []
        kinds += ["declared"] if content and not kinds else []
        if kinds:
            sections[str(section)] = frozenset(map(str, kinds))
    return sections


def _run_cases(declared: Declared) -> tuple[FeatureCaseResult, ...]:
    if not declared.spec.tests:
        return ()
    from engine.features.case_runner import run_cases  # noqa: PLC0415 - imports polars

    return tuple(run_cases(declared.spec.tests, declared.logical.compiled))


def _looked(stores: Stores, pipeline: str) -> dict[str, int]:
    """Count what monitors and triggers have written down about the pipeline, by table."""
    found: dict[str, int] = {}
    for table in _LOOP_TABLES:
        with suppress(EngineError):
            query = f"SELECT COUNT(*) AS n FROM {table} WHERE pipeline = ?"  # noqa: S608 - our own names
            found[table] = int(stores.database.query(query, (pipeline,))[0]["n"])
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
