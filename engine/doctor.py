"""Looks at this machine and project, and says what to do about each finding. Called by `engine doctor`.

Enters: a project. Leaves: one `Check` a question, `fail` when a run cannot work, `warn` when it may not. A check that
meets something unexpected reports that; nothing here raises, and nothing heavy is imported: versions come from metadata.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import re
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

import msgspec

from engine.clock import SystemClock
from engine.errors import EngineError
from engine.locations import Stores
from engine.project import Project
from engine.spec import SettingsSpec
from engine.stores.disk import is_abandoned
from engine.stores.lakefs_endpoint import is_server, parse_endpoint, probe

Status = Literal["ok", "warn", "fail"]
Finding = tuple[Status, str, str | None]  # the status, what was found, what to do next
GIGABYTE = 1_000_000_000
LIBRARIES = ("dask", "distributed", "hydra-core", "lightgbm", "msgspec", "numpy", "polars", "pygit2")


class Check(msgspec.Struct, frozen=True):
    """One question and its answer."""

    name: str
    status: Status
    message: str
    next_step: str | None = None


def diagnose(project: Project) -> tuple[Check, ...]:
    """Ask every question, in under a second; never raises."""
    return tuple(_answer(name, ask, project) for name, ask in QUESTIONS.items())


def _answer(name: str, ask: Callable[[Project], Finding], project: Project) -> Check:
    try:
        return Check(name, *ask(project))
    except EngineError as error:
        return Check(name, "fail", error.message, error.hint)
    except Exception as error:  # noqa: BLE001 - a doctor reports what it meets, whatever that is
        return Check(name, "fail", f"{type(error).__name__}: {error}", "see to what the message names")


def check_python(_: Project) -> Finding:
    """Ask for a Python that the engine supports."""
    version = ".".join(map(str, sys.version_info[:3]))
    return "ok", f"Python {version} at {sys.executable}", None


def check_openmp(_: Project) -> Finding:
    """Ask for OpenMP's runtime, which LightGBM loads."""
    if sys.platform != "linux":
        return "ok", f"not looked for on {sys.platform}", None
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return "fail", "libgomp.so.1 cannot be loaded; LightGBM needs it", "sudo apt-get install -y libgomp1"
    return "ok", "libgomp.so.1 is there", None


def check_libraries(_: Project) -> Finding:
    """Compare the installed libraries with the lock, when a lock is there to compare with."""
    installed = {name: _version(name) for name in LIBRARIES}
    absent = [name for name, version in installed.items() if version is None]
    if absent:
        return "fail", f"not installed: {', '.join(absent)}", "python3 -m engine.bootstrap install"
    lock = Path(__file__).resolve().parent.parent / "requirements.lock"
    known = ", ".join(f"{name} {version}" for name, version in installed.items())
    if not lock.is_file():
        return "ok", known, None
    pinned = read_lock(lock.read_text("utf-8"))
    differing = [
        f"{name} {version} (locked: {', '.join(sorted(pinned[name]))})"
        for name, version in installed.items()
        if name in pinned and version not in pinned[name]
    ]
    if differing:
        return "warn", "differs from requirements.lock: " + ", ".join(differing), "python3 -m engine.bootstrap install"
    return "ok", known, None


def read_lock(text: str) -> dict[str, set[str]]:
    """Give each package's locked versions; there are several when they depend on the Python.

    >>> read_lock("numpy==2.4 ; python_full_version < '3.12'")
    {'numpy': {'2.4'}}
    """
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE):
        pins.setdefault(name, set()).add(version)
    return pins


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_space(project: Project) -> Finding:
    """Ask for room for snapshots, artefacts and temporary files."""
    free = shutil.disk_usage(project.root).free / GIGABYTE
    message = f"{free:.1f} GB free at {project.root}"
    if free < 1:
        return "fail", message, "make room; `engine gc` deletes artefacts that nothing needs"
    if free < 5:
        return "warn", message, "`engine gc` deletes artefacts that nothing needs"
    return "ok", message, None


def check_folders(project: Project) -> Finding:
    """Ask for folders that can be written: the engine's own, and the runs'."""
    folders = [project.home, project.root / "runs"]
    for folder in folders:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        if not nearest.is_dir():
            return "fail", f"{nearest} is no folder", "move it out of the way"
        try:
            with tempfile.TemporaryFile(dir=nearest):
                pass
        except OSError as error:
            return (
                "fail",
                f"{nearest} cannot be written: {error.strerror}",
                f"give yourself the right: ls -ld {nearest}",
            )
    return "ok", "can be written: " + ", ".join(folder.name for folder in folders), None


def check_sqlite(project: Project) -> Finding:
    """Ask for SQLite's write-ahead log, which network file systems lack, and without which processes block each other."""
    nearest = next(place for place in (project.home, *project.home.parents) if place.is_dir())
    with (
        tempfile.TemporaryDirectory(dir=nearest, prefix=".doctor-") as folder,
        closing(sqlite3.connect(Path(folder) / "probe.db")) as connection,
    ):
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        connection.execute("CREATE TABLE probe (x)")
    if mode != "wal":
        return (
            "fail",
            f"SQLite's write-ahead log does not work at {nearest} (mode: {mode})",
            "put stores.state on a local disk, or in PostgreSQL",
        )
    return "ok", f"SQLite {sqlite3.sqlite_version} with its write-ahead log", None


def check_git(_: Project) -> Finding:
    """Ask for `git`, with which people read snapshots; the engine itself uses libgit2."""
    path = shutil.which("git")
    if path is None:
        return (
            "warn",
            "git is not on PATH; runs do without, but no run records its commit",
            "sudo apt-get install -y git",
        )
    return "ok", path, None


def check_pipelines(project: Project) -> Finding:
    """Ask for a project with pipelines."""
    if not project.conf.is_dir():
        return "warn", f"{project.root} has no conf/: only the shipped pipelines are there", "engine init"
    from engine.config import list_pipelines  # noqa: PLC0415 - Hydra, only where it is needed

    names = list_pipelines(project)
    if not names:
        return "fail", f"no pipeline in {project.conf / 'pipeline'}", "engine init"
    return "ok", ", ".join(names), None


def check_database(project: Project) -> Finding:
    """Ask for a state database that opens, at a schema version that this engine knows."""
    stores = _stores(project)
    location = project.locate(stores.settings.stores.state, "state.db")
    if "://" not in location and not Path(location).exists():
        return "ok", "not there yet; the first run makes it", None
    stores.database.query("SELECT 1 AS one")
    stores.database.close()
    return "ok", f"opens at {location.rpartition('@')[2]}", None


def check_reviews(project: Project) -> Finding:
    """Name the models in use whose review date has passed."""
    stores = _stores(project)
    location = project.locate(stores.settings.stores.state, "state.db")
    if "://" not in location and not Path(location).exists():
        return "ok", "no models yet", None
    from engine.production import overdue_reviews, words_of  # noqa: PLC0415 - only where there are models

    today = SystemClock().now().date()
    overdue = overdue_reviews(stores.registry, stores.artefacts, today, stores.registry.names())
    stores.database.close()
    if overdue:
        said = "; ".join(words_of(review) for review in overdue)
        return "warn", said, "look at `engine models show`, then set a later `card.review_by` or train anew"
    return "ok", "no review of a model in use is overdue", None


def check_artefacts(project: Project) -> Finding:
    """Look for what killed runs left in the artefact store's staging folder."""
    staging = _stores(project).artefacts_root / "staging"
    left = sum(map(is_abandoned, staging.iterdir())) if staging.is_dir() else 0
    if left:
        return "warn", f"{left} leftovers of killed runs at {staging}", "engine gc"
    return "ok", "no leftovers", None


def check_snapshots(project: Project) -> Finding:
    """Ask for a snapshot store that opens; a server has to answer, and to know the access key."""
    stores = _stores(project)
    if is_server(stores.snapshots_url):
        endpoint = parse_endpoint(stores.snapshots_url)
        return "ok", f"{endpoint.label}, version {probe(endpoint)}", None
    if "://" not in stores.snapshots_url and not Path(stores.snapshots_url).exists():
        return "ok", "not there yet; the first run makes it", None
    broken = [str(path) for path in _repositories(Path(stores.snapshots_url)) if not (path / "HEAD").is_file()]
    if broken:
        return "fail", f"no repository in {', '.join(broken)}", "restore it from a copy, or move it away to ingest anew"
    return "ok", f"at {stores.snapshots_url}", None


def _repositories(root: Path) -> Iterator[Path]:
    """Find what a git repository's objects mark, one or two folders down."""
    for marker in (*root.glob("objects"), *root.glob("*/objects"), *root.glob("*/*/objects")):
        if (marker.parent / "refs").is_dir():
            yield marker.parent


def check_workers(_: Project) -> Finding:
    """Count the processors, and look at the memory that worker processes share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shared = Path("/dev/shm")  # noqa: S108 - looked at, not written
    if not shared.is_dir():
        return "ok", f"{cores} processors", None
    free = shutil.disk_usage(shared).free / GIGABYTE
    if free < 0.06:
        return "warn", f"{cores} processors; {free:.2f} GB of shared memory", "start the container with --shm-size=1g"
    return "ok", f"{cores} processors; {free:.1f} GB of shared memory", None


def check_extras(_: Project) -> Finding:
    """Say which optional parts are there: a scheduler of commands, and PostgreSQL's driver."""
    there = {"cron": shutil.which("crontab") is not None, "psycopg": _version("psycopg") is not None}
    return "ok", ", ".join(f"{name}: {'there' if found else 'absent'}" for name, found in there.items()), None


def _stores(project: Project) -> Stores:
    """Place the stores as the project's first sound pipeline does, else where they are by default."""
    from engine.config import compose, list_pipelines, load_settings  # noqa: PLC0415 - Hydra, only where it is needed

    for name in list_pipelines(project):
        with suppress(EngineError):  # a mistake in a pipeline is for `engine check` to tell
            return Stores(project, load_settings(compose(project, (f"pipeline={name}",))))
    return Stores(project, SettingsSpec())


QUESTIONS: dict[str, Callable[[Project], Finding]] = {
    "python": check_python,
    "openmp": check_openmp,
    "libraries": check_libraries,
    "space": check_space,
    "folders": check_folders,
    "sqlite": check_sqlite,
    "git": check_git,
    "pipelines": check_pipelines,
    "database": check_database,
    "reviews": check_reviews,
    "artefacts": check_artefacts,
    "snapshots": check_snapshots,
    "workers": check_workers,
    "optional": check_extras,
}
