"""`engine models show MODEL --how`: what exactly produced a model: data, code, config, environment, evidence, and how to redo it.

Reads the registry, the package's own provenance, and the run's folder if it is still there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.commands.arguments import print_json, show
from engine.commands.tables import Cell, render_table
from engine.errors import EngineError, IntegrityError, NotFoundError
from engine.keys import digest
from engine.records import ModelVersion, RunRecord
from engine.runs import RunFolder

_ROOM = 72  # characters
_PARTS = ("trainer", "splitter", "gate", "source")


def tell_how(version: ModelVersion, package: Path, runs: Path, *, as_json: bool) -> int:
    """Print what produced a version; raises `IntegrityError` when its package has no provenance."""
    found = gather(version, package, runs)
    if as_json:
        print_json(found)
    else:
        show(word(found))
    return 0


def gather(version: ModelVersion, package: Path, runs: Path) -> dict[str, Any]:
    """Collect it as one document."""
    try:
        provenance = json.loads((package / "provenance.json").read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{package}: its provenance cannot be read: {error}") from error
    record, plugins = _run(runs / version.run_id)
    environment = provenance.get("environment") or {}
    config = provenance.get("config") or {}
    return {
        "model": f"{version.name}:{version.version}",
        "digest": version.digest,
        "registered_at": version.created_at,
        "pipeline": version.pipeline,
        "run_id": version.run_id,
        "run_folder": str(runs / version.run_id) if record else None,
        "verdict": version.verdict,
        "metrics": version.metrics,
        "overrides": list(record.overrides) if record else None,
        "sweep": record.sweep if record else None,
        "trial": record.trial if record else None,
        "tuned": list(record.tuned) if record else [],
        "config_digest": digest(config),
        "config": config,
        "seeds": record.seeds if record else None,
        "data": list(record.snapshots) if record else None,
        "git": provenance.get("git"),
        "plugins": plugins,
        "python": environment.get("python"),
        "platform": environment.get("platform"),
        "environment_digest": environment.get("digest"),
        "packages": len(environment.get("packages") or {}),
        "gates": [{"name": gate.name, "status": gate.status, "observed": gate.observed} for gate in record.gates]
        if record
        else None,
        "nodes": {node.name: node.output.digest for node in record.nodes if node.output} if record else None,
        "reproduce": f"engine runs reproduce {version.run_id}",
    }


def word(found: dict[str, Any]) -> str:
    """Tell it in words and tables."""
    git = found["git"] or {}
    dirty = " with uncommitted changes" if git.get("dirty") else ""
    lines = [
        f"{found['model']} ({found['digest'][:12]}), registered {found['registered_at']}, verdict {found['verdict']}",
        f"pipeline {found['pipeline']}, run {found['run_id']}"
        + (f", trial {found['trial']} of sweep {found['sweep']}" if found["sweep"] is not None else ""),
        (
            f"code: git {str(git.get('commit') or 'none')[:12]}{dirty}; python {found['python']} on {found['platform']}, "
            f"{found['packages']} packages (environment {str(found['environment_digest'])[:12]})"
        ),
        f"config {found['config_digest'][:12]}" + (f": {' '.join(found['overrides'])}" if found["overrides"] else ""),
    ]
    if found["run_folder"] is None:
        lines.append("the run's folder is gone: data, gates and nodes are in the package's own files only")
    else:
        data: list[list[Cell]] = [
            [pin.source, pin.repository, pin.commit[:12], pin.digest[:12], pin.rows] for pin in found["data"]
        ]
        lines += ["", render_table(["data", "repository", "commit", "content", "rows"], data)]
        parts: list[list[Cell]] = [[name, value[:12]] for name, value in found["plugins"].items()]
        lines += ["", render_table(["component", "source"], parts)]
        gates: list[list[Cell]] = [[gate["name"], gate["status"], _short(gate["observed"])] for gate in found["gates"]]
        lines += ["", render_table(["gate", "status", "observed"], gates)]
    return "\n".join([*lines, "", f"do it again: {found['reproduce']}"])


def _short(observed: str) -> str:
    """Cut what a table has no room for; `--json` and the report have all of it."""
    return observed if len(observed) <= _ROOM else observed[: _ROOM - 3] + "..."


def _run(folder: Path) -> tuple[RunRecord | None, dict[str, str]]:
    """Read the run and the digests of the components that took part; nothing when its folder is gone."""
    held = RunFolder(folder)
    try:
        record, plan = held.read_record(), held.read_plan()
    except (NotFoundError, EngineError):
        return None, {}
    parts = {
        name: value for node in plan.nodes for name, value in node.code.items() if name.partition(":")[0] in _PARTS
    }
    return record, dict(sorted(parts.items()))
