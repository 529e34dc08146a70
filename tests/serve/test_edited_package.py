"""A feature program that was changed after training is not loaded, whoever mended what around it, and the refusal names the feature."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.api import declare
from engine.errors import IntegrityError
from engine.project import Project
from engine.serve.package import differing_features, load_served, open_served
from engine.stores.artefacts import LocalArtefactStore
from tests.serve.conftest import Rides

DAY = 86_400_000_000


def edit(program: Path) -> None:
    """Change one window from seven days to thirty, as somebody with an editor does."""
    document: dict[str, Any] = json.loads(program.read_bytes())
    (step,) = [item for item in document["steps"] if item["name"] == "driver_late_7d"]
    assert step["width"] == 7 * DAY if "width" in step else step["window"] == 7 * DAY
    step["width" if "width" in step else "window"] = 30 * DAY
    program.chmod(0o644)
    program.write_text(json.dumps(document))


def test_a_package_whose_program_was_edited_in_the_store(project: Rides, tmp_path: Path) -> None:
    version = project.version(1)
    home = tmp_path / "artefacts"
    shutil.copytree(project.home / "artefacts", home)
    store = LocalArtefactStore(home)
    edit(store.open(version.digest) / "program.json")
    with pytest.raises(IntegrityError, match=r"driver_late_7d\.window: 7d -> 30d") as refused:
        open_served(store, version, project.root)
    assert "the copy was moved to" in str(refused.value)


def test_a_package_that_was_copied_and_edited(project: Rides, tmp_path: Path) -> None:
    version = project.version(1)
    copy = tmp_path / "copy"
    shutil.copytree(LocalArtefactStore(project.home / "artefacts").open(version.digest), copy)
    assert load_served(copy, version, project.root).label == "rides:1"
    edit(copy / "program.json")
    with pytest.raises(IntegrityError, match=r"driver_late_7d\.window: 7d -> 30d"):
        load_served(copy, version, project.root)


def test_what_conf_declares_otherwise_is_said_with_both_values(project: Rides) -> None:
    folder = LocalArtefactStore(project.home / "artefacts").open(project.version(1).digest)
    same = declare(Project(project.root), ["pipeline=rides"]).logical.program
    assert differing_features(same, folder) == []
    changed = declare(Project(project.root), ["pipeline=rides", "features.driver_far.window=2d"]).logical.program
    assert differing_features(changed, folder) == ["driver_far.window: 7d -> 2d"]
