"""Promote: the one node that changes the world. It completes the package, registers it, and moves the alias.

It runs in the engine's own process, after everything it needs, and is idempotent: a package whose content is registered
already is that version, and an alias that points there already stays. Standard library and stores only.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.contracts import ArtefactStore
from engine.errors import ConflictError
from engine.keys import Json, canonical_json, digest_file
from engine.nodes.card import card_facts, render_card
from engine.plan.model import PlanNode
from engine.records import ModelVersion, NodeResult
from engine.spec.rollout import RolloutSpec
from engine.stores import rollouts
from engine.stores.ledger import Versions, Why
from engine.stores.registry import Candidate, Registry


@dataclass(frozen=True, slots=True)
class Promotion:
    """What the effect needs besides its node: stores, provenance, and what was champion when the plan was made."""

    store: ArtefactStore
    registry: Registry
    run_id: str
    pipeline: str
    actor: str
    champion_version: int | None
    compared_with: str | None
    provenance: Mapping[str, Json]
    sampled: bool

    def why(self, words: str, gate: Mapping[str, Any]) -> Why:
        """Give what stands behind a decision of this run."""
        return Why(self.actor, f"run {self.run_id}: {words}", self.run_id, dict(gate))


def promote(node: PlanNode, results: Mapping[str, NodeResult], promotion: Promotion) -> Mapping[str, Json]:
    """Register and, on the verdict `promote`, move the alias; raises `ConflictError` when somebody moved it meanwhile."""
    settings = node.settings
    verdict = str(_notes(results, node, "gate")["verdict"])
    if promotion.sampled:
        reason = "a sampled run registers nothing"
        return {"verdict": verdict, "promoted": False, "model": None, "changed": False, "reason": reason}
    version = _register(node, results, promotion, verdict)
    label = f"{version.name}:{version.version}"
    found: dict[str, Json] = {
        "verdict": verdict,
        "model": label,
        "model_digest": version.digest,
        "version": version.version,
        "changed": version.run_id == promotion.run_id,
    }
    holder = promotion.registry.alias(version.name, settings["alias"])
    if holder is not None and holder.version == version.version:
        return found | {"promoted": True, "reason": f"{label} holds @{settings['alias']} already"}
    bad = promotion.registry.rolled_back(version.name, settings["alias"]).get(version.version)
    if verdict == "promote" and bad is not None:
        reason = f"{label} was rolled back from on {bad.at[:10]} by {bad.actor} ({bad.reason}): promote it by hand, or train another"
        return found | {"promoted": False, "reason": reason}
    if verdict != "promote" or settings["promote"] != "on_pass":
        reason = f"verdict {verdict}" if verdict != "promote" else "registry.promote is `manual`"
        if verdict == "reject":
            _record_rejection(version, promotion, settings["alias"], results, node)
        return found | {"promoted": False, "reason": reason}
    if settings["rollout"] is not None and holder is not None:
        return {**found, **_begin_rollout(version, promotion, settings)}
    try:
        promotion.registry.move_alias(
            version.name,
            settings["alias"],
            Versions(promotion.champion_version, version.version),
            promotion.why("every blocking gate passed", _notes(results, node, "gate")),
            action="promote",
        )
    except ConflictError:
        holder = promotion.registry.alias(version.name, settings["alias"])
        if holder is None or holder.version != version.version:
            raise
        return found | {"promoted": True, "reason": f"another run has just made {label} @{settings['alias']}"}
    return found | {"promoted": True, "changed": True, "reason": "every blocking gate passed"}


def _begin_rollout(version: ModelVersion, promotion: Promotion, settings: Mapping[str, Any]) -> Mapping[str, Json]:
    """Let the version prove itself beside the champion, as declared; one that is on its way already stays there."""
    alive = rollouts.current(promotion.registry, version.name)
    if alive is not None and alive.status in rollouts.ALIVE and alive.challenger == version.version:
        return {"promoted": False, "reason": f"{version.name}:{version.version} is being rolled out already"}
    if alive is not None and alive.status == "rolled_back" and alive.challenger == version.version:
        words = f"the rollout of {version.name}:{version.version} was rolled back: {alive.reason}"
        return {"promoted": False, "reason": words}
    spec = msgspec.convert(settings["rollout"], RolloutSpec)
    start = rollouts.Start(version.name, settings["alias"], version.version, spec, promotion.actor, promotion.run_id)
    begun = rollouts.begin(promotion.registry, start)
    words = f"every blocking gate passed; a rollout begins at {begun.share:.2%} beside {version.name}:{begun.champion}"
    return {"promoted": False, "changed": True, "reason": words}


def _register(node: PlanNode, results: Mapping[str, NodeResult], promotion: Promotion, verdict: str) -> ModelVersion:
    name = str(node.settings["model"])
    content = _digest(results, node, "package")
    for version in promotion.registry.versions(name):
        if version.content_digest == content and promotion.store.exists(version.digest):
            return version
    notes = _notes(results, node, "package")
    snapshots = {
        name.removeprefix("ingest."): f"{output.notes['repository']}@{output.notes['commit']}"
        for name, output in ((name, result.output) for name, result in sorted(results.items()))
        if output is not None and name.startswith("ingest.") and "commit" in output.notes
    }
    provenance = {"content": content, "verdict": verdict, "snapshots": snapshots, **promotion.provenance}
    package = assemble(promotion.store, content, provenance, node.settings["card"])
    candidate = Candidate(
        name=name,
        digest=package,
        run_id=promotion.run_id,
        pipeline=promotion.pipeline,
        metrics=dict(notes.get("metrics", {})),
        verdict=verdict,
        model_digest=_digest(results, node, "model"),
        content_digest=content,
        compared_with=promotion.compared_with,
    )
    return promotion.registry.register(candidate, is_kept=lambda version: promotion.store.exists(version.digest))


def assemble(store: ArtefactStore, content: str, provenance: Mapping[str, Json], card: Mapping[str, Any]) -> str:
    """Copy the package's content, add card, provenance and manifest, and commit; gives the package's digest."""
    staged = store.stage()
    try:
        copy_tree(store.open(content), staged)
        described, evidence = (json.loads((staged / name).read_bytes()) for name in ("package.json", "evidence.json"))
        (staged / "card.md").write_text(render_card(card, described, evidence), encoding="utf-8")
        (staged / "card.json").write_bytes(canonical_json(card_facts(card, evidence)))
        (staged / "provenance.json").write_bytes(canonical_json(provenance))
        write_manifest(staged)
        return store.commit(staged)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def copy_tree(source: Path, target: Path) -> None:
    """Copy an artefact's files into an existing folder; the copies are writable, as the store's are not."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(exist_ok=True)
        else:
            shutil.copyfile(path, copy)


def write_manifest(folder: Path) -> None:
    """List every file with its digest, so that a package can be checked wherever it is copied to."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    manifest = {path.relative_to(folder).as_posix(): digest_file(path) for path in files}
    (folder / "manifest.json").write_bytes(msgspec.json.format(canonical_json(manifest)))


def _record_rejection(
    version: ModelVersion, promotion: Promotion, alias: str, results: Mapping[str, NodeResult], node: PlanNode
) -> None:
    told = any(
        entry.action == "reject" and entry.to_version == version.version
        for entry in promotion.registry.history(version.name)
    )
    if not told:
        why = promotion.why("a blocking gate failed", _notes(results, node, "gate"))
        promotion.registry.record_rejection(version.name, alias, version.version, why)


def _notes(results: Mapping[str, NodeResult], node: PlanNode, role: str) -> Mapping[str, Any]:
    output = results[node.inputs[role]].output
    return output.notes if output else {}


def _digest(results: Mapping[str, NodeResult], node: PlanNode, role: str) -> str:
    output = results[node.inputs[role]].output
    if output is None:
        raise AssertionError(f"{node.name} ran without its input {role}")  # the executor never lets this happen
    return output.digest
