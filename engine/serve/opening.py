"""Opening the online state that a plan names, for a program. Called by serving processes and `engine predict`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from engine.components import load_catalogue
from engine.errors import DataError
from engine.features.steps import FeatureProgram
from engine.online.opening import open_cells, open_state
from engine.online_contracts import Cells, OnlineState, Pushed, Watermark
from engine.records import ModelVersion
from engine.serve.package import open_served, read_plugins
from engine.serve.scorer import Scorer
from engine.stores.artefacts import LocalArtefactStore

STATE_PLUGINS = ("state_stores",)  # packages of earlier engines do not name it


class States:
    """The online states of one store, each of a program. The store is opened when first needed, and once a process."""

    def __init__(self, url: str, name: str, root: Path, plugins: tuple[str, ...]) -> None:
        self._url, self._name, self._root, self._plugins = url, name, root, plugins
        self._cells: Cells | None = None

    def open(self, program: FeatureProgram) -> OnlineState:
        """Open a program's state; raises `EngineError` when none was filled for it, naming the features that differ."""
        if not program.feature_sources:
            return NoState(program)
        if self._cells is None:
            self._cells = open_cells(self._url, self._name, load_catalogue(self._root, self._plugins))
        return open_state(self._cells, program)

    def close(self) -> None:
        """Let go of the store."""
        if self._cells is not None:
            self._cells.close()
            self._cells = None


def open_scorer(version: ModelVersion, root: Path, artefacts: Path, online: str, plugins: tuple[str, ...]) -> Scorer:
    """A scorer of a registered version over the state of its program, for whoever serves nobody."""
    store = LocalArtefactStore(artefacts)
    served = open_served(store, version, root)
    known = plugins or (*read_plugins(served.model.folder), *STATE_PLUGINS)
    return Scorer(served, States(online, version.name, root, tuple(dict.fromkeys(known))).open(served.program))


class NoState:
    """The state of a program that reads no source: there is nothing to find and nothing to push."""

    def __init__(self, program: FeatureProgram) -> None:
        self._program = program

    @property
    def program_digest(self) -> str:
        """The program."""
        return self._program.digest

    def read(self, spine: pl.DataFrame, as_of: int | None = None) -> Mapping[str, pl.DataFrame]:  # noqa: ARG002 - a state's
        """Find nothing."""
        return {}

    def push(self, source: str, events: pl.DataFrame, token: str | None = None) -> Pushed:  # noqa: ARG002
        """Refuse."""
        raise DataError(f"no feature reads source `{source}`")

    def retract(self, source: str, events: pl.DataFrame, token: str | None = None) -> int:  # noqa: ARG002
        """Refuse."""
        raise DataError(f"no feature reads source `{source}`")

    def watermark(self, source: str) -> Watermark:
        """Refuse."""
        raise DataError(f"no feature reads source `{source}`")

    def expire(self, before: int) -> int:  # noqa: ARG002
        """There is nothing to forget."""
        return 0

    def close(self) -> None:
        """Nothing is held."""
