"""Makes `.venv` hold what a lock pins: the body of `engine.bootstrap`, which is its only caller.

Enters: a checkout with `pyproject.toml` and the locks. Leaves: `.venv` with the locked packages (every file checked by its
hash), the checkout on its path, a command `engine`, compiled bytecode, and a stamp that makes the next call free. No
build happens: a `.pth` line and a script do what an editable install would, and need no build tool from the network.
Standard library only, and importable by Python 3.8. Interrupted half-way, the next call mends it.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

UNAVAILABLE = 7  # as engine.errors.ExitCode, which old Pythons cannot import
NEEDED_BYTES = 2_000_000_000  # the environment is 1.2 GB; the installers keep temporary files
LOCK, DEV_LOCK = "requirements.lock", "requirements-dev.lock"

ENGINE_SCRIPT = """\
#!/bin/sh
'''exec' '{python}' "$0" "$@"
' '''
import sys

from engine.cli import main

sys.exit(main())
"""


class BootstrapError(Exception):
    """What stopped the installation, and what to do next."""

    def __init__(self, message: str, hint: str, code: int = UNAVAILABLE) -> None:
        super().__init__(f"error: {message}\n  next: {hint}")
        self.code = code


def say(words: str) -> None:
    """Tell a person what is going on."""
    print(f"bootstrap: {words}", file=sys.stderr, flush=True)


def install(root: Path, *, dev: bool) -> None:
    """Make `.venv` hold the lock, unless its stamp says that it does. Raises `BootstrapError`."""
    if is_current(root, dev=dev):
        return
    with _alone(root):
        if is_current(root, dev=dev):  # somebody else finished while we waited
            return
        _check_space(root)
        uv = find_uv()
        offer_packages(missing_packages(needs_ensurepip=uv is None and not _succeeds(root, "-m", "pip", "--version")))
        if not _venv_works(root):
            _make_venv(root, uv)
        _install_lock(root, DEV_LOCK if dev else LOCK, uv)
        _link_project(root)
        _compile(root)
        _write_stamp(root, dev=dev)


def is_current(root: Path, *, dev: bool) -> bool:
    """Tell whether `.venv` was finished for these very locks, this place and its own Python."""
    try:
        lines = (root / ".venv" / "plumbline.stamp").read_text("utf-8").splitlines()
    except OSError:
        return False
    return stamp_of(root, DEV_LOCK if dev else LOCK) in lines and (root / ".venv" / "bin" / "python").exists()


def stamp_of(root: Path, lock: str) -> str:
    """Digest what an environment depends on: the lock, the declaration, the venv's Python, and where it stands."""
    digest = hashlib.sha256(lock.encode())
    for path in (root / lock, root / "pyproject.toml", root / ".venv" / "pyvenv.cfg"):
        content = path.read_bytes() if path.is_file() else b"absent"
        digest.update(b"%d:" % len(content) + content)
    digest.update(os.fsencode(root))
    return lock + " " + digest.hexdigest()


def find_uv() -> str | None:
    """Give uv's path when it is on PATH and works (a shim may not)."""
    uv = shutil.which("uv")
    if uv is None or subprocess.run([uv, "--version"], capture_output=True, check=False).returncode:
        return None
    return uv


def missing_packages(*, needs_ensurepip: bool) -> list[str]:
    """Name the Debian packages that this machine lacks: OpenMP's runtime for LightGBM, and `ensurepip` for pip."""
    missing = []
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libgomp.so.1")
        except OSError:
            missing.append("libgomp1")
    if needs_ensurepip and importlib.util.find_spec("ensurepip") is None:
        missing.append("python{}.{}-venv".format(*sys.version_info[:2]))
    return missing


def offer_packages(missing: Sequence[str]) -> None:
    """Install system packages where that needs no password; else raise with the line to type."""
    if not missing:
        return
    steps = (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing])
    prefix = _root_prefix()
    typed = " && ".join(" ".join(["sudo", *step]) for step in steps)
    if prefix is None or shutil.which("apt-get") is None:
        raise BootstrapError(
            f"this machine lacks {' and '.join(missing)}", f"type `{typed}`, then the same command again"
        )
    for step in steps:
        say("installing " + " ".join(missing) + ": " + " ".join([*prefix, *step]))
        if subprocess.run([*prefix, *step], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode:
            raise BootstrapError(f"`{' '.join(step)}` failed; its words are above", f"type `{typed}` yourself")


def _root_prefix() -> list[str] | None:
    if os.geteuid() == 0:
        return ["env", "DEBIAN_FRONTEND=noninteractive"]
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n", "env", "DEBIAN_FRONTEND=noninteractive"]
    return None


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Let one installation at a time into a checkout; the lock is on the folder itself and dies with the process."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another bootstrap is at work here; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_space(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < NEEDED_BYTES and not (root / ".venv").exists():
        raise BootstrapError(
            f"{free / 1e9:.1f} GB are free at {root}; the environment needs {NEEDED_BYTES / 1e9:.0f} GB",
            "make room, then the same command again",
        )


def _venv_works(root: Path) -> bool:
    """Tell whether the venv is whole, stands where it was made, and its Python starts and is new enough."""
    if (root / ".venv" / "plumbline.installing").exists():  # an installer was killed: a package may be there by half
        return False
    links = list((root / ".venv" / "lib").glob("python3.*/site-packages/plumbline.pth"))
    if any(link.read_text("utf-8") != f"{root}\n" for link in links):  # moved or copied: its scripts name the old place
        return False
    return _succeeds(root, "-c", "import sys; sys.exit(sys.version_info < (3, 11) or sys.prefix == sys.base_prefix)")


def _succeeds(root: Path, *arguments: str) -> bool:
    """Tell whether the venv's Python runs this without a complaint."""
    try:
        command = [str(root / ".venv" / "bin" / "python"), *arguments]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _make_venv(root: Path, uv: str | None) -> None:
    target = root / ".venv"
    if target.is_symlink() or target.is_file():
        raise BootstrapError(f"{target} is a file or a link that holds no environment", "move it away, then try again")
    if target.exists():
        say("clearing an environment that does not work")
        shutil.rmtree(target)
    say("making .venv with " + ("uv" if uv else "venv"))
    base = getattr(sys, "_base_executable", None) or sys.executable
    command = (
        [uv, "venv", "-q", "--python", base, str(target)] if uv else [base, "-m", "venv", "--without-pip", str(target)]
    )
    _checked(command, "the environment could not be made", "the lines above say why", root)


def _install_lock(root: Path, lock: str, uv: str | None) -> None:
    python = str(root / ".venv" / "bin" / "python")
    count = sum("==" in line for line in (root / lock).read_text("utf-8").splitlines())
    say(f"installing {count} packages of {lock} with " + ("uv" if uv else "pip") + "; a minute or two the first time")
    common = ["--require-hashes", "-r", str(root / lock)]
    if uv:
        command = [uv, "pip", "install", "-q", "--python", python, "--compile-bytecode", *common]
    else:
        if not _succeeds(root, "-m", "pip", "--version"):
            command = [python, "-m", "ensurepip", "--default-pip"]
            _checked(command, "pip could not be made", "the lines above say why", root)
        command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--compile", "--use-pep517"]
        command += common
    hint = "if the network or the package registry was away, the same command again goes on from here"
    at_work = root / ".venv" / "plumbline.installing"
    at_work.touch()
    _checked(command, "the packages could not be installed", hint, root)


def _checked(command: Sequence[str], message: str, hint: str, root: Path) -> None:
    """Run a step with its output on stderr, so stdout stays the command's own."""
    code = subprocess.run(
        command, cwd=root, env=environment(root), stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False
    ).returncode
    if code >= 0:  # it ended by itself, so nothing is there by half
        (root / ".venv" / "plumbline.installing").unlink(missing_ok=True)
    if code:
        raise BootstrapError(f"{message} ({Path(command[0]).name} ended with {code})", hint)


def environment(root: Path) -> dict[str, str]:
    """Give the variables of a process inside `.venv`: as `activate` would set them."""
    ours = {key: value for key, value in os.environ.items() if key != "PYTHONHOME"}
    ours["VIRTUAL_ENV"] = str(root / ".venv")
    ours["PATH"] = f"{root / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return ours


def _link_project(root: Path) -> None:
    """Put the checkout on the venv's path, and write the command `engine`."""
    (packages,) = (root / ".venv" / "lib").glob("python3.*/site-packages")
    (packages / "plumbline.pth").write_text(f"{root}\n", "utf-8")
    script = root / ".venv" / "bin" / "engine"
    script.unlink(missing_ok=True)
    script.write_text(
        ENGINE_SCRIPT.format(python=str(root / ".venv" / "bin" / "python").replace("'", "'\\''")), "utf-8"
    )
    script.chmod(0o755)


def _compile(root: Path) -> None:
    """Compile our own modules: where PYTHONDONTWRITEBYTECODE is set, every start would pay for it."""
    python = str(root / ".venv" / "bin" / "python")
    subprocess.run([python, "-m", "compileall", "-q", "engine", "plugins"], cwd=root, stdout=sys.stderr, check=False)


def _write_stamp(root: Path, *, dev: bool) -> None:
    """Say, at the very end, which locks the environment holds; the development lock contains the other."""
    stamp = root / ".venv" / "plumbline.stamp"
    lines = [stamp_of(root, lock) for lock in ((LOCK, DEV_LOCK) if dev else (LOCK,))]
    partial = stamp.with_suffix(".partial")
    partial.write_text("\n".join(lines) + "\n", "utf-8")
    partial.replace(stamp)
