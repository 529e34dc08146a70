"""A registered model, checked and made ready to answer: digests before parsing, the program against what was recorded.

Enters: a package's folder and the plugins that it names. Leaves: `Served`. Called at start and when a new champion is
taken over. Nothing here reads `conf/`: a package holds all that an answer depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from engine.components import load_catalogue
from engine.contracts import ArtefactStore
from engine.errors import EngineError, IntegrityError, UsageError
from engine.features.differences import differences
from engine.features.steps import FeatureProgram, SourceProgram
from engine.keys import digest
from engine.nodes.frames import read_document
from engine.nodes.matrix import LoadedModel, load_model
from engine.nodes.packages import check_golden, check_manifest
from engine.records import ModelVersion
from engine.serve.schema import RequestSchema, reserved


@dataclass(frozen=True)
class Served:
    """A loaded model with its name, its request schema, and how the events of its sources are typed."""

    version: ModelVersion
    model: LoadedModel
    schema: RequestSchema
    sources: Mapping[str, SourceProgram]
    task: str

    @property
    def label(self) -> str:
        """The model as people name it, such as `flights:3`."""
        return f"{self.version.name}:{self.version.version}"

    @property
    def program(self) -> FeatureProgram:
        """The feature program."""
        return self.model.program

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The model's input columns, in order."""
        return self.model.columns


def open_served(store: ArtefactStore, version: ModelVersion, root: Path) -> Served:
    """Load a registered version; raises `IntegrityError` for any difference in its bytes, `EngineError` for the rest.

    What differs in a feature program is named: a program that was changed after training cannot be served.
    """
    try:
        folder = store.open(version.digest)
    except IntegrityError as error:
        if error.copy is not None:
            _name_edits(error.copy, error)
        raise
    return load_served(folder, version, root)


def _name_edits(folder: Path, damage: IntegrityError) -> None:
    """Refuse a damaged package by the features that were edited in it, if that is the damage."""
    try:
        program = FeatureProgram.from_json(read_document(folder / "program.json"))
        described = read_document(folder / "package.json")
    except (OSError, ValueError, EngineError):
        return  # nothing can be said of it
    try:
        check_program(program, described)
    except IntegrityError as edited:
        raise IntegrityError(f"{damage.message}; {edited.message}", hint=edited.hint, copy=folder) from damage


def load_served(folder: Path, version: ModelVersion, root: Path) -> Served:
    """As `open_served`, from a package's folder, wherever it was copied to."""
    described = read_document(folder / "package.json")
    program = FeatureProgram.from_json(read_document(folder / "program.json"))
    check_program(program, described)
    problems = check_manifest(folder)
    if problems:
        raise IntegrityError(
            f"{_label(version)}: {'; '.join(problems)}", hint="register the model again: run its pipeline"
        )
    catalogue = load_catalogue(root, read_plugins(folder))
    model = load_model(folder, catalogue)
    problems = check_golden(folder, catalogue)
    if problems:
        raise IntegrityError(
            f"{_label(version)} does not predict here what it predicted when it was packaged: {'; '.join(problems)}",
            hint="serve it with the libraries that provenance.json lists, or train it here",
        )
    taken = reserved(program.spine.request)
    if taken:
        raise UsageError(
            f"{_label(version)} cannot be served: the request fields {', '.join(taken)} mean something else in a request",
            hint="derive them under other names in the source",
        )
    schema = RequestSchema(dict(program.spine.request))
    return Served(version, model, schema, _sources(folder), str(described["task"]))


def check_program(program: FeatureProgram, described: Mapping[str, Any]) -> None:
    """Compare a program with the digests recorded when it was trained; raises `IntegrityError` naming the features."""
    if program.digest == described["program_digest"]:
        return
    words = _differences(program, described)
    raise IntegrityError(
        "the feature program differs from the one that the model was trained with: "
        + ("; ".join(words) or "its spine, label or sources"),
        hint="a program is changed by training with it: change the pipeline and run it",
    )


def differing_features(program: FeatureProgram, folder: Path) -> list[str]:
    """Say in words how a program differs from a package's, such as "amt_30d.window: 30d -> 7d"; nothing when they are the same."""
    described = read_document(folder / "package.json")
    if program.digest == described["program_digest"]:
        return []
    return _differences(program, described) or ["the spine, the label or a source"]


def _differences(program: FeatureProgram, described: Mapping[str, Any]) -> list[str]:
    if "program" in described:
        return [str(found) for found in differences(FeatureProgram.from_json(described["program"]), program)]
    recorded: Mapping[str, str] = described.get("step_digests", {})  # all that packages of earlier engines say
    found = {step.name: digest(msgspec.to_builtins(step)) for step in program.steps}
    changed = sorted(name for name in recorded.keys() & found.keys() if recorded[name] != found[name])
    words = [f"feature `{name}` is not the one that the model was trained with" for name in changed]
    words += [f"feature `{name}` is missing" for name in sorted(recorded.keys() - found.keys())]
    words += [f"feature `{name}` was added" for name in sorted(found.keys() - recorded.keys())]
    return words


def read_plugins(folder: Path) -> tuple[str, ...]:
    """The plugins that a package was made with."""
    return tuple(read_document(folder / "provenance.json")["plugins"])


def _sources(folder: Path) -> dict[str, SourceProgram]:
    """How pushed events are read; packages of earlier engines do not say."""
    path = folder / "sources.json"
    if not path.is_file():
        return {}
    return {name: SourceProgram.from_json(document) for name, document in read_document(path).items()}


def _label(version: ModelVersion) -> str:
    return f"{version.name}:{version.version}"
