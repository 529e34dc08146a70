"""The stores of a project as its settings place them, opened when first used. Called by `api`, `running` and commands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from engine.clock import Clock, SystemClock
from engine.project import Project
from engine.spec import SettingsSpec
from engine.stores.artefacts import LocalArtefactStore
from engine.stores.database import Database, open_database
from engine.stores.outbox import Outbox
from engine.stores.registry import Registry
from engine.stores.runs_index import RunsIndex
from engine.stores.sweeps_index import SweepsIndex

if TYPE_CHECKING:
    from engine.contracts import SnapshotStore


@dataclass(frozen=True)
class Stores:
    """Where bytes and state live, opened when first used. `clock` stamps the registry's ledger: a replay brings its own."""

    project: Project
    settings: SettingsSpec
    clock: Clock = SystemClock()  # noqa: RUF009 - it has no state

    @property
    def snapshots_url(self) -> str:
        """The snapshot store's URL."""
        return self.project.locate(self.settings.stores.snapshots, "snapshots")

    @property
    def artefacts_root(self) -> Path:
        """The artefact store's folder."""
        return Path(self.project.locate(self.settings.stores.artefacts, "artefacts"))

    @property
    def runs_root(self) -> Path:
        """The folder of the run folders."""
        return self.project.root / self.settings.stores.runs

    @cached_property
    def artefacts(self) -> LocalArtefactStore:
        """Node outputs and actions."""
        return LocalArtefactStore(self.artefacts_root)

    @cached_property
    def database(self) -> Database:
        """Models, aliases, the ledger and the index of runs."""
        return open_database(self.project.locate(self.settings.stores.state, "state.db"))

    @property
    def registry(self) -> Registry:
        """Models, aliases and their ledger."""
        return Registry(self.database, self.clock)

    @property
    def index(self) -> RunsIndex:
        """The index of runs."""
        return RunsIndex(self.database)

    @property
    def outbox(self) -> Outbox:
        """What trackers have not been told."""
        return Outbox(self.database)

    @property
    def sweeps(self) -> SweepsIndex:
        """Sweeps and their trials."""
        return SweepsIndex(self.database)

    def open_snapshots(self) -> SnapshotStore:
        """Versioned data; imported late, since a plan over files never needs it."""
        from engine.stores.snapshots import open_snapshots  # noqa: PLC0415 - start-up time

        return open_snapshots(self.snapshots_url)
