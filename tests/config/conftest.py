"""A stage for configuration tests: a small shipped conf, a project with one pipeline, and components that only lend parameters."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

import engine.config.folders as folders_module
from engine.components import Catalogue, load_catalogue
from engine.config import ComposedConfig, attach_places, compose, load_plugins, load_settings, load_spec
from engine.errors import ConfigError
from engine.evaluation.names import check_metrics
from engine.plan.logical import build_logical
from engine.project import Project
from engine.spec import PipelineSpec

STAGE = Path(__file__).parent / "stage"


@dataclass(frozen=True)
class Stage:
    """A project in a temporary folder beside a shipped conf of its own."""

    root: Path

    @property
    def project(self) -> Project:
        return Project(self.root / "project")

    def write(self, name: str, text: str) -> Path:
        path = self.project.conf / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def pipeline(self, text: str, name: str = "mine") -> Path:
        return self.write(f"pipeline/{name}.yaml", f"# @package _global_\n\ndefaults:\n  - loans\n  - _self_\n\n{text}")

    def compose(self, *overrides: str) -> ComposedConfig:
        return compose(self.project, overrides)

    def catalogue(self, config: ComposedConfig) -> Catalogue:
        return load_catalogue(self.project.root, load_plugins(config))

    def load(self, *overrides: str) -> PipelineSpec:
        config = self.compose(*overrides)
        spec = load_spec(config, self.catalogue(config))
        load_settings(config)
        problems = list(check_metrics(spec.train.task, spec.evaluate))
        try:
            build_logical(spec)
        except ConfigError as error:
            problems += error.problems
        if problems:  # as `engine.api` does with what other layers find
            raise ConfigError(attach_places(problems, config))
        return spec

    def normalise(self, text: str) -> str:
        return text.replace(str(self.root / "shipped"), "SHIPPED").replace(str(self.root / "project"), "PROJECT")

    def overlay(self, folder: Path) -> None:
        if folder.is_dir():
            shutil.copytree(folder, self.project.conf, dirs_exist_ok=True)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    shutil.copytree(STAGE, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(folders_module, "shipped", lambda folder: tmp_path / "shipped" / folder)
    monkeypatch.chdir(tmp_path / "project")
    return Stage(tmp_path)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[ComposedConfig, Catalogue]:
    """A composed configuration without mistakes, and its catalogue; made once for property tests."""
    root = tmp_path_factory.mktemp("stage")
    shutil.copytree(STAGE, root, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders_module, "shipped", lambda folder: root / "shipped" / folder)
        config = Stage(root).compose("pipeline=mine", "execute.retries=1", "train.features=[amount_*]")
        return config, Stage(root).catalogue(config)
