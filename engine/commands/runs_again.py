"""`engine runs reproduce`: in this process, or in one with the code and the environment that the run recorded."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from engine.commands.arguments import print_json, say, show
from engine.commands.runs_words import tell_reproduction
from engine.errors import ConflictError, StoreError, UnavailableError, UsageError
from engine.experiment_records import Reproduction
from engine.experiments.differences import Looked, look_at
from engine.locations import Stores
from engine.project import shipped
from engine.records import Environment
from engine.spec import SettingsSpec


def reproduce_run(arguments: argparse.Namespace, stores: Stores) -> int:
    """Do a run again; gives 0 when every node is identical, 8 when one is not."""
    given = Path(arguments.run_id)
    if len(given.parts) > 1 or given.is_absolute():
        stores = _beside(stores, given)
        arguments.run_id = given.name
    looked = look_at(stores, arguments.run_id)
    workspace = Path(tempfile.mkdtemp(prefix=f"again-{looked.record.run_id}-", dir=_scratch(stores)))
    if arguments.checkout or arguments.environment:
        return _elsewhere(arguments, stores, looked, workspace)
    from engine.execute.progress import choose_progress  # noqa: PLC0415 - start-up time
    from engine.experiments.reproducing import ReproduceRequest, remove, reproduce  # noqa: PLC0415

    display = choose_progress(quiet=arguments.json, ndjson=None, log_format="text")
    root = Path(arguments.root) if arguments.root else stores.project.root
    plugins = (*looked.config.get("plugins", ()), *looked.config.get("extra_plugins", ()))
    try:
        found = reproduce(stores, looked, ReproduceRequest(root, plugins, arguments.threads, display), workspace)
    finally:
        display.close()
    found = _write_down(stores, found)
    if arguments.json:
        print_json(found)
    else:
        show(tell_reproduction(found))
    if found.identical and not arguments.keep:
        remove(workspace)
    return found.exit_code


def _write_down(stores: Stores, found: Reproduction) -> Reproduction:
    """Keep what was found beside the run: `engine score` counts it. One that was interrupted has found nothing."""
    import msgspec  # noqa: PLC0415 - start-up time

    from engine.clock import SystemClock, isoformat  # noqa: PLC0415
    from engine.runs import open_folder  # noqa: PLC0415

    found = msgspec.structs.replace(found, at=isoformat(SystemClock().now()))
    if any(node.again is None for node in found.nodes):
        return found
    try:
        open_folder(stores.runs_root, found.run_id).add_reproduction(found)
    except StoreError as error:
        say(f"not written down: {error}")
    return found


def _scratch(stores: Stores) -> Path:
    folder = stores.project.home / "again"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _beside(stores: Stores, folder: Path) -> Stores:
    """Give stores that find a run folder of another clone; all else stays this project's."""
    if not (folder / "run.json").exists():
        raise UsageError(f"{folder}: not a run folder", hint="give an id, or a folder with a run.json")
    places = replace_runs(stores, str(folder.resolve().parent))
    return Stores(stores.project, places)


def replace_runs(stores: Stores, root: str) -> SettingsSpec:
    """Give the settings with another folder of runs."""
    import msgspec  # noqa: PLC0415

    return msgspec.structs.replace(stores.settings, stores=msgspec.structs.replace(stores.settings.stores, runs=root))


def _elsewhere(arguments: argparse.Namespace, stores: Stores, looked: Looked, workspace: Path) -> int:
    """Call this very command in the checkout's code, and in an environment made from its lock."""
    root = _checkout(stores, looked, workspace) if arguments.checkout else stores.project.root
    code = root if (root / "engine" / "api.py").exists() else _own_code(workspace)
    python = build_environment(code, looked.record.environment, workspace) if arguments.environment else sys.executable
    command = [
        python,
        "-m",
        "engine",
        "runs",
        "--project",
        str(stores.project.root),
        "--runs-dir",
        str(stores.runs_root),
    ]
    for flag in ("state", "artefacts", "snapshots"):
        if getattr(arguments, flag):
            command += [f"--{flag}", str(getattr(arguments, flag))]
    command += ["reproduce", looked.record.run_id, "--root", str(root)]
    command += ["--threads", str(arguments.threads)] if arguments.threads else []
    command += [flag for flag, given in (("--json", arguments.json), ("--keep", arguments.keep)) if given]
    say(f"with the code of {code}" + (f" in {python}" if arguments.environment else ""))
    try:
        return subprocess.run(command, check=False, cwd=code, env={**os.environ, "PYTHONPATH": str(code)}).returncode  # noqa: S603
    finally:
        if arguments.checkout:
            _git(stores.project.root, "worktree", "remove", "--force", str(workspace / "checkout"))


def _checkout(stores: Stores, looked: Looked, workspace: Path) -> Path:
    """Check out the commit that the run recorded; raises `UsageError` or `ConflictError`."""
    commit = looked.record.git.commit
    if commit is None:
        raise UsageError(f"run {looked.record.run_id} was not in a git work tree", hint="leave out --checkout")
    if looked.record.git.dirty:
        say("the work tree had changes that no commit holds: the code may not be quite what ran")
    top = Path(_git(stores.project.root, "rev-parse", "--show-toplevel").strip())
    _git(top, "worktree", "add", "--detach", str(workspace / "checkout"), commit)
    return workspace / "checkout" / stores.project.root.resolve().relative_to(top.resolve())


def _git(where: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(where), *words], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        hint = "fetch the commit that the run recorded, or leave out --checkout"
        raise ConflictError(f"git {words[0]} {words[-1]}: {done.stderr.strip()}", hint=hint)
    return done.stdout


def _own_code(workspace: Path) -> Path:
    """Give a folder with this engine and nothing else: its checkout, or a copy of the installed package."""
    checkout = shipped("conf").parent
    if (checkout / "engine" / "api.py").exists():
        return checkout
    installed, code = Path(__file__).resolve().parents[2], workspace / "code"
    for package in ("engine", "hydra_plugins"):
        shutil.copytree(installed / package, code / package)
    return code


def build_environment(code: Path, recorded: Environment | None, workspace: Path) -> str:
    """Make a virtual environment from the code's lock, else from the versions that the run recorded; gives its Python.

    Raises `UnavailableError` when there is neither, or when a package is not to be had.
    """
    target, uv = workspace.resolve() / "venv", str(Path(sys.executable).with_name("uv"))
    wanted = _wanted(code.resolve() / "requirements.lock", recorded, workspace.resolve())
    steps = (
        [uv, "venv", "-q", "--python", sys.executable, str(target)],
        [uv, "pip", "install", "-q", "--python", str(target / "bin" / "python"), *wanted],
    )
    for step in steps:
        try:
            # From `/`: a pyproject.toml around us may have settings of uv that do not go with a lock's hashes.
            done = subprocess.run(step, capture_output=True, text=True, check=False, cwd="/")  # noqa: S603
        except OSError as error:
            raise UnavailableError(f"cannot run {step[0]}: {error.strerror}", hint="pip install uv") from error
        if done.returncode:
            raise UnavailableError(f"the environment could not be rebuilt: {done.stderr.strip()}")
    return str(target / "bin" / "python")


def _wanted(lock: Path, recorded: Environment | None, workspace: Path) -> tuple[str, ...]:
    """Give what to install: the lock with its hashes, or every recorded version."""
    if lock.exists():
        return ("--require-hashes", "-r", str(lock))
    if recorded is None or not recorded.packages:
        raise UnavailableError(f"{lock} is missing, and the run recorded no packages", hint="leave out --environment")
    say(f"{lock} is missing: the versions that the run recorded are installed, without hashes")
    listed = workspace / "recorded.txt"
    lines = (f"{name}=={version}\n" for name, version in recorded.packages.items() if name != "plumbline")
    listed.write_text("".join(lines))
    return ("--no-deps", "-r", str(listed))
