"""Delivering what trackers have not been told: one sender at a time, each letter by its own component, failures kept.

Enters: the outbox. Leaves: what was sent and what was not, with why. Called by `engine runs sync`, in a process of its own.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from engine.components import load_catalogue
from engine.contracts import MirroredRun
from engine.errors import EngineError, NotFoundError
from engine.execute.journal import read_events
from engine.locations import Stores
from engine.records import Event
from engine.runs import RunFolder, flatten
from engine.stores.outbox import Letter

_SHARED = frozenset({"kind", "doc"})
_FILES = ("run.json", "config.yaml", "report.html")
_SECRET = "${secret:"  # noqa: S105 - how a reference begins


class Tracker(Protocol):
    """A component of the role `tracker`."""

    def mirror(self, run: MirroredRun) -> str:
        """Tell of a run, new or again; gives its id there. Raises `UnavailableError`."""
        ...


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one letter."""

    run_id: str
    tracker: str
    kind: str
    sent: bool
    id: str | None = None
    error: str | None = None


def deliver(stores: Stores, run_id: str | None = None) -> list[Delivery]:
    """Deliver what is due; nothing while another sender is at it. One tracker's failure leaves the others alone."""
    done: list[Delivery] = []
    with _alone(stores.project.home / "sync.lock") as alone:
        if not alone:
            return done
        down: set[str] = set()
        for letter in stores.outbox.due(run_id):
            kind = str(letter.declared.get("kind"))
            mark = repr(sorted(letter.declared.items()))
            if mark in down:  # it did not answer a moment ago: the letter waits for the next sender
                continue
            try:
                ident = _send(stores, letter)
            except Exception as error:  # noqa: BLE001 - a client may raise anything, and no letter is lost for it
                words = error.message if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
                stores.outbox.failed(letter, words)
                done.append(Delivery(run_id=letter.run_id, tracker=letter.tracker, kind=kind, sent=False, error=words))
                if not isinstance(error, NotFoundError):  # a run that is gone says nothing of the tracker
                    down.add(mark)
                continue
            stores.outbox.sent(letter)
            done.append(Delivery(run_id=letter.run_id, tracker=letter.tracker, kind=kind, sent=True, id=ident))
    return done


def _send(stores: Stores, letter: Letter) -> str:
    root = stores.project.root
    component = load_catalogue(root, letter.plugins).get("tracker", str(letter.declared.get("kind")))
    given = {key: value for key, value in letter.declared.items() if key not in _SHARED}
    tracker: Tracker = component.build(msgspec.convert(given, component.params, strict=True))
    return tracker.mirror(describe(stores, letter))


def describe(stores: Stores, letter: Letter) -> MirroredRun:
    """Gather what a tracker is told of a run; raises `NotFoundError` when its folder is gone."""
    folder = RunFolder(stores.runs_root / letter.run_id)
    record = folder.read_record()
    config = folder.read_config()
    try:
        edges: Mapping[str, tuple[str, ...]] = {
            name: tuple(dict.fromkeys(needs)) for name, needs in folder.read_plan().edges.items()
        }
    except EngineError:
        edges = {}
    tags = {f"tag.{name}": value for name, value in stores.index.tags(record.run_id).get(record.run_id, {}).items()}
    facts = {"run": record.run_id, "pipeline": record.pipeline, "status": record.status, "verdict": record.verdict or "none",
             "model": record.model or "none", "git": record.git.commit or "none", "config": record.config_digest,
             "plan": record.plan_digest}  # fmt: skip
    if record.sweep is not None:
        facts |= {"sweep": str(record.sweep), "trial": str(record.trial)}
    package = None
    if record.model_digest and stores.artefacts.exists(record.model_digest):
        package = stores.artefacts.open(record.model_digest)
    return MirroredRun(
        record=record,
        project=root_name(stores.project.root),
        root=stores.project.root,
        params=_params(config),
        metrics=_metrics(record),
        tags={**{f"plumbline.{name}": value for name, value in facts.items()}, **tags},
        events=_events(folder),
        edges=edges,
        files=tuple(path for name in _FILES if (path := folder.path / name).exists()),
        package=package,
        alias=str((config.get("registry") or {}).get("alias", "champion")),
    )


def root_name(root: Path) -> str:
    """Name a project by its folder."""
    return root.name


def _params(config: Mapping[str, Any]) -> dict[str, str]:
    """Give what was declared of the model's life, leaf by leaf; a reference to a secret is left out, and so is prose."""
    kept = {
        key: config[key]
        for key in ("split", "train", "baseline", "evaluate", "features", "label", "gates")
        if key in config
    }
    leaves = {path: value for path, value in flatten(kept) if value not in ({}, [], None)}
    return {
        path: str(value) for path, value in leaves.items() if _SECRET not in str(value) and not path.endswith(".doc")
    }


def _metrics(record: Any) -> dict[str, float]:
    found = {metric.name: metric.value for metric in record.metrics if metric.value is not None}
    found |= {f"baseline.{metric.name}": metric.value for metric in record.baseline_metrics if metric.value is not None}
    found |= {f"validation.{metric.name}": metric.value for metric in record.tuned if metric.value is not None}
    return {**found, "seconds": record.seconds}


def _events(folder: RunFolder) -> tuple[Event, ...]:
    try:
        return tuple(read_events(folder.events))
    except (NotFoundError, EngineError):
        return ()


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Hold the sender's lock; false when another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)
