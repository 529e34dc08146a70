"""Model packages from outside: verified whole, and proved to predict what they predicted."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from engine.components import Catalogue, load_catalogue
from engine.contracts import ArtefactStore
from engine.errors import EngineError
from engine.keys import digest_file
from engine.nodes.frames import read_document
from engine.nodes.matrix import load_model
from engine.nodes.package import as_bits
from engine.package_format import check_readable
from engine.project import Project
from engine.records import ModelVersion


def verify_package(store: ArtefactStore, version: ModelVersion, project: Project) -> list[str]:
    """Re-check a registered package: the store's digests, its own manifest, and its golden predictions bit by bit."""
    try:
        folder = store.open(version.digest)
        check_readable(folder)
        problems = check_manifest(folder)
        plugins = tuple(read_document(folder / "provenance.json")["plugins"])
        return problems or check_golden(folder, load_catalogue(project.root, plugins))
    except EngineError as error:
        return [error.message]


def check_manifest(folder: Path) -> list[str]:
    """Compare every file of a package with its manifest."""
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=dict[str, str])
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"manifest.json"}
    wrong = [f"{name}: its bytes differ from the manifest" for name in sorted(present & manifest.keys())
             if digest_file(folder / name) != manifest[name]]  # fmt: skip
    missing = [f"{name}: in the manifest, but missing" for name in sorted(manifest.keys() - present)]
    return wrong + missing + [f"{name}: not in the manifest" for name in sorted(present - manifest.keys())]


def check_golden(folder: Path, catalogue: Catalogue) -> list[str]:
    """Score the golden inputs again, together and one by one; every bit has to be as it was."""
    golden = read_document(folder / "golden.json")
    model = load_model(folder, catalogue)
    inputs = np.array([[float.fromhex(value) for value in row] for row in golden["inputs"]], dtype=np.float64)
    expected = golden["outputs"]
    together = as_bits(model.predictor.predict(inputs))
    apart = [as_bits(model.predictor.predict(row.reshape(1, -1)))[0] for row in inputs]
    problems = []
    for way, found in (("together", together), ("one by one", apart)):
        differing = sum(a != b for a, b in zip(found, expected, strict=True))
        if differing:
            problems.append(f"golden predictions, scored {way}: {differing} of {len(expected)} differ")
    return problems
