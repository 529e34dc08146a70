"""Run folders: `runs/<id>/`, written while a run goes on, read by `engine runs`, `plan` and `report`.

`run.json` exists from the first moment (status `running`) and is replaced atomically; a lock that dies with its process
tells a run that goes on from one that was killed. `last_plan` gives `engine plan` something to compare with.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.config.composed import ComposedConfig
from engine.errors import IntegrityError, NotFoundError, StoreError, UsageError
from engine.experiment_records import Reproduction
from engine.keys import Json
from engine.plan.model import ExecutionPlan
from engine.records import ConfigValue, RunRecord
from engine.spec import PipelineSpec

KILLED = "killed: it stopped without a word"
_FILES = {
    "record": "run.json",
    "plan": "plan.json",
    "spec": "spec.json",
    "config": "config.yaml",
    "origins": "origins.json",
    "reproduced": "reproduced.json",
}


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @property
    def run_id(self) -> str:
        """The run's id: the folder's name."""
        return self.path.name

    @property
    def events(self) -> Path:
        """The journal."""
        return self.path / "events.jsonl"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    def write(self, name: str, content: bytes) -> None:
        """Write one of the folder's files whole or not at all; raises `StoreError` (full disk, read-only folder)."""
        write_atomically(self.path / name, content)

    def write_record(self, record: RunRecord) -> None:
        """Replace `run.json`."""
        self.write(_FILES["record"], msgspec.json.format(msgspec.json.encode(record)) + b"\n")

    def read_record(self) -> RunRecord:
        """Read `run.json`; a run that stopped without a word is given as `interrupted`."""
        record: RunRecord = _read(self.path / _FILES["record"], RunRecord)
        if record.status == "running" and not self.is_alive():
            return msgspec.structs.replace(record, status="interrupted", error=KILLED, exit_code=137)
        return record

    def add_reproduction(self, found: Reproduction) -> None:
        """Write down what doing the run again found, after what was found before."""
        every = [*self.read_reproductions(), found]
        self.write(_FILES["reproduced"], msgspec.json.format(msgspec.json.encode(every)) + b"\n")

    def read_reproductions(self) -> list[Reproduction]:
        """Read what doing the run again found, oldest first."""
        path = self.path / _FILES["reproduced"]
        found: list[Reproduction] = _read(path, list[Reproduction]) if path.exists() else []
        return found

    def read_plan(self) -> ExecutionPlan:
        """Read `plan.json`."""
        plan: ExecutionPlan = _read(self.path / _FILES["plan"], ExecutionPlan)
        return plan

    def read_config(self) -> dict[str, Any]:
        """Read `config.yaml`; empty when it is missing or cannot be read."""
        import yaml  # noqa: PLC0415 - start-up time

        try:
            found = yaml.load(
                (self.path / _FILES["config"]).read_bytes(),
                Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader),  # noqa: S506 - both are safe
            )
        except (OSError, yaml.YAMLError):
            return {}
        return found if isinstance(found, dict) else {}

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Mark the run as going on; the mark goes with the process, however that ends."""
        with (self.path / ".alive").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def is_alive(self) -> bool:
        """Say whether the process that holds the run still lives."""
        try:
            with (self.path / ".alive").open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def create_folder(root: Path, run_id: str) -> RunFolder:
    """Make a run's folder; raises `StoreError` when that is not possible."""
    path = root / run_id
    try:
        path.mkdir(parents=True, exist_ok=False)
        (path / ".alive").touch()
    except OSError as error:
        hint = "give the runs folder free space and write permission, or set stores.runs"
        raise StoreError(f"cannot create the run folder {path}: {error.strerror}", hint=hint) from error
    return RunFolder(path)


def write_start(
    folder: RunFolder, record: RunRecord, plan: ExecutionPlan, config: ComposedConfig, spec: PipelineSpec
) -> None:
    """Write what is known before anything runs: record, plan, spec, composed config, and where each value came from."""
    origins = [
        ConfigValue(path=path, value=value, origin=str(config.origins.get(path, "default")))
        for path, value in flatten(config.values)
    ]
    folder.write_record(record)
    folder.write(_FILES["plan"], msgspec.json.encode(plan))
    folder.write(_FILES["spec"], msgspec.json.encode(spec))
    folder.write(_FILES["config"], config.as_yaml().encode())
    folder.write(_FILES["origins"], msgspec.json.encode(origins))


def flatten(value: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Give the leaves of a document with their dotted paths.

    >>> list(flatten({"a": {"b": 1}, "c": [2]}))
    [('a.b', 1), ('c.0', 2)]
    """
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else None
    )
    if not items:
        yield path, value
        return
    for key, item in items:
        yield from flatten(item, f"{path}.{key}" if path else str(key))


def open_folder(root: Path, run_id: str) -> RunFolder:
    """Find a run by id, or `last`; raises `NotFoundError`."""
    folders = list_folders(root)
    if run_id == "last" and folders:
        return folders[-1]
    for folder in folders:
        if folder.run_id == run_id:
            return folder
    known = ", ".join(folder.run_id for folder in folders[-5:]) or "none yet"
    raise NotFoundError(f"no run {run_id} in {root}", hint=f"the latest: {known}; `engine runs list` shows all")


def list_folders(root: Path) -> list[RunFolder]:
    """List run folders by rising id."""
    if not root.is_dir():
        return []
    names = (entry.name for entry in os.scandir(root) if entry.name.isdigit() and entry.is_dir())
    return [RunFolder(root / name) for name in sorted(names, key=int) if (root / name / _FILES["record"]).exists()]


def last_plan(runs_root: Path, pipeline: str) -> tuple[ExecutionPlan | None, dict[str, str]]:
    """Give the plan of this pipeline's latest run and what its nodes produced; nothing when there was none."""
    for folder in reversed(list_folders(runs_root)):
        try:
            record = folder.read_record()
            if record.pipeline == pipeline and record.nodes:
                return folder.read_plan(), {node.name: node.output.digest for node in record.nodes if node.output}
        except (IntegrityError, NotFoundError):
            continue
    return None, {}


def previous_run(folders: Sequence[RunFolder], pipeline: str) -> RunRecord | None:
    """Give the latest of these runs that was this pipeline's; damaged records are passed over."""
    for folder in reversed(folders):
        try:
            record = folder.read_record()
        except (IntegrityError, NotFoundError):
            continue
        if record.pipeline == pipeline:
            return record
    return None


def parse_sample(text: str | None) -> float | None:
    """Read `5%` or `0.05` as a fraction; raises `UsageError`.

    >>> parse_sample("5%")
    0.05
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text.strip())
    fraction = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < fraction <= 1:
        raise UsageError(
            f"--sample {text}: not a share of the rows", hint="write a percentage above 0, as in --sample 5%"
        )
    return fraction


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file by a temporary name, fsync and rename; raises `StoreError` that says why it could not."""
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101 - a record is for everybody who may read the folder
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):  # noqa: PTH110
            os.unlink(temporary)  # noqa: PTH108
        raise StoreError(
            f"cannot write {path}: {error.strerror}", hint="free some space, or make the folder writable"
        ) from error


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise NotFoundError(f"{path} is missing") from None
    except (msgspec.DecodeError, OSError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from error
