"""What may go: artefacts and objects of snapshots that no run, model, tag, branch or cached result needs.

Enters: the stores, the run folders and the registry. Leaves: a `GarbageReport`, and deletions when they are asked for.
Whatever somebody used since the oldest run that still goes on began is spared, and so is what is younger than the grace
period. What cannot be read cannot be known not to pin anything: then nothing is deleted, and the error says what it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from engine.clock import Clock
from engine.contracts import SnapshotStore
from engine.data.old_logs import OldLogs
from engine.data_records import Garbage, GarbageReport
from engine.errors import EngineError, IntegrityError
from engine.runs import RunFolder, list_folders
from engine.stores.artefacts import LocalArtefactStore
from engine.stores.registry import Registry
from engine.stores.snapshot_garbage import IdleObject, Pins, delete_objects, find_objects, is_collectable

_TOUCH_SECONDS = 3600.0  # an artefact's time of last use may be this stale


@dataclass(frozen=True, slots=True)
class Retention:
    """What to keep beyond what is pinned: results of the latest runs, what is young, and how far back history has data.

    `logs_seconds`: how far back the logs of serving go; `None` keeps all of them, as of history.
    """

    keep_runs: int = 20
    older_than: float = 86_400.0
    history_seconds: float | None = None
    logs_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Collector:
    """Looks for garbage, and deletes it. `snapshots` or `artefacts` may be left out."""

    artefacts: LocalArtefactStore
    registry: Registry
    runs_root: Path
    snapshots: SnapshotStore | None
    clock: Clock
    only_data: bool = False
    logs: OldLogs | None = None

    def collect(self, retention: Retention, *, delete: bool) -> GarbageReport:
        """Report what nothing needs, and delete it unless this is a dry run; raises `IntegrityError` when it cannot tell."""
        runs = [_readable(folder) for folder in list_folders(self.runs_root)]
        grace = self._grace(runs, retention)
        pins = Pins(self._needed_commits(runs), self._needed_objects(retention), retention.history_seconds)
        kept: dict[str, int] = {}
        found: list[Garbage] = []
        deleted = 0
        if not self.only_data:
            keep = self._needed_artefacts(runs, retention.keep_runs)
            kept["artefacts of runs and models"] = len(keep)
            idle = self.artefacts.find_garbage(keep, grace)
            found += [
                Garbage(store="artefacts", name=i.digest, bytes=i.bytes, idle_seconds=i.idle_seconds) for i in idle
            ]
            if delete:
                deleted += self.artefacts.collect_garbage(keep, grace)
                self.artefacts.sweep_staging()
        if self.snapshots is not None and is_collectable(self.snapshots):
            kept["commits of runs and results"], kept["objects of models"] = len(pins.commits), len(pins.digests)
            for repository in self.snapshots.repositories():
                objects = find_objects(self.snapshots, repository, pins, grace)
                found += [_told(repository, item) for item in objects]
                deleted += delete_objects(self.snapshots, repository, pins, objects) if delete else 0
        if self.logs is not None and retention.logs_seconds is not None:
            old = self.logs.find(self.clock.now().timestamp(), retention.logs_seconds)
            found += old
            deleted += self.logs.delete(old) if delete else 0
        return GarbageReport(
            dry_run=not delete,
            found=len(found),
            bytes=sum(item.bytes for item in found),
            deleted=deleted,
            kept=kept,
            garbage=tuple(sorted(found, key=lambda item: -item.bytes)),
        )

    def _grace(self, runs: Sequence[RunFolder], retention: Retention) -> float:
        """Spare what was used since the oldest run that still goes on began."""
        now = self.clock.now()
        started = [datetime.fromisoformat(run.read_record().started_at) for run in runs if run.is_alive()]
        return max([retention.older_than, *((now - at).total_seconds() + _TOUCH_SECONDS for at in started)])

    def _needed_artefacts(self, runs: Sequence[RunFolder], count: int) -> set[str]:
        versions = [version for name in self.registry.names() for version in self.registry.versions(name)]
        found = {digest for version in versions for digest in (version.digest, version.content_digest) if digest}
        for run in runs[-count:] if count else ():
            found |= {node.output.digest for node in run.read_record().nodes if node.output}
        return found

    def _needed_commits(self, runs: Sequence[RunFolder]) -> set[str]:
        """Give the commits that runs read, and those that cached results of ingestions stand for."""
        found = {pin.commit for run in runs for pin in run.read_record().snapshots}
        return found | {str(output.notes["commit"]) for output in self.artefacts.outputs() if "commit" in output.notes}

    def _needed_objects(self, retention: Retention) -> set[str]:
        """Give the objects that models were trained on; raises `IntegrityError` for a package that cannot be read."""
        found: set[str] = set()
        for name in self.registry.names():
            for version in self.registry.versions(name):
                try:
                    found.update(_objects_of(self.artefacts.open(version.digest)))
                except (EngineError, OSError, ValueError, KeyError) as error:
                    if retention.history_seconds is None:
                        continue  # all of history keeps its objects anyway
                    raise IntegrityError(
                        f"{name}:{version.version}: its package cannot be read, so what it pins is not known: {error}",
                        hint="restore the package, or collect without --keep-history",
                    ) from error
        return found


def _objects_of(package: Path) -> Iterator[str]:
    """Give the digests of the objects that a package names."""
    described = json.loads((package / "package.json").read_bytes())
    for source in described["data"].values():
        for item in source["objects"]:
            yield item["digest"]


def _readable(folder: RunFolder) -> RunFolder:
    try:
        folder.read_record()
    except EngineError as error:
        raise IntegrityError(
            f"run {folder.run_id} cannot be read, so what it pins is not known: {error.message}",
            hint=f"repair {folder.path}, or move it away if nobody needs it",
        ) from error
    return folder


def _told(repository: str, item: IdleObject) -> Garbage:
    return Garbage(
        store="snapshots", name=item.digest, bytes=item.bytes, idle_seconds=item.idle_seconds, repository=repository
    )
