"""From a fresh clone to a running `engine`: makes `.venv`, installs the lock, and becomes the command asked for.

Enters: `python3 -m engine.bootstrap run pipeline=flights` in a checkout where nothing is installed. Leaves: `.venv` with
exactly what `requirements.lock` pins (by hash), the checkout itself on its path, and the process replaced by the command.
A stamp in `.venv` makes the next call free. Standard library only; it parses under Python 3.8, to say there that 3.11 is
needed. Called by people, `make` and `.ci/run`; the engine never imports it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from engine.installation import UNAVAILABLE, BootstrapError, environment, install, say

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
USAGE, INTERRUPTED = 2, 130  # as engine.errors.ExitCode, which old Pythons cannot import

HELP = """\
usage: python3 -m engine.bootstrap MODE [arguments]

  run ARGS…    install, then `engine run ARGS…`         (for example: run pipeline=flights)
  test ARGS…   install the development tools too, then the whole test suite, or what pytest's arguments pick
  lint         ruff, mypy and import-linter over everything
  install      install only; `install --dev` adds the development tools
  exec CMD…    install, then any command of the environment (for example: exec engine plan pipeline=flights)

A second call starts at once. To begin anew, delete `.venv`."""

LINTERS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
)


def main(arguments: Sequence[str]) -> int:
    """Do one mode; gives the exit code when it has not become another process."""
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(HELP)
        return 0
    mode, rest = arguments[0], list(arguments[1:])
    try:
        _dispatch(mode, rest)
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        print(f"error: {error}\n  next: see to the disk or the rights, then the same command again", file=sys.stderr)
        return UNAVAILABLE
    return 0


def _dispatch(mode: str, rest: list[str]) -> None:
    modes: Mapping[str, Callable[[list[str]], None]] = {
        "run": _run,
        "test": _test,
        "lint": _lint,
        "install": _install_only,
        "exec": _exec,
    }
    if mode not in modes:
        raise BootstrapError(f"unknown mode `{mode}`", f"one of: {', '.join(modes)}", USAGE)
    check_python(sys.version_info[:2])
    if not (ROOT / "pyproject.toml").is_file() or not (ROOT / "requirements.lock").is_file():
        raise BootstrapError(
            f"{ROOT} is an installed package, not a checkout: there is nothing to set up",
            "type `engine run pipeline=flights`",
            USAGE,
        )
    modes[mode](rest)


def _run(rest: list[str]) -> None:
    install(ROOT, dev=False)
    _become(["engine", "run", *rest])


def _test(rest: list[str]) -> None:
    install(ROOT, dev=True)
    os.chdir(ROOT)
    _become(["python", "-m", "pytest", *rest])


def _lint(_: list[str]) -> None:
    install(ROOT, dev=True)
    failed = []
    for command in LINTERS:
        say(" ".join(command))
        program = str(ROOT / ".venv" / "bin" / command[0])
        if subprocess.run([program, *command[1:]], cwd=ROOT, env=environment(ROOT), check=False).returncode:
            failed.append(" ".join(command))
    if failed:
        raise BootstrapError(f"failed: {', '.join(failed)}", "`make format` mends layout; the rest is above", 1)


def _install_only(rest: list[str]) -> None:
    if set(rest) - {"--dev"}:
        raise BootstrapError(f"`install` takes only --dev, not {' '.join(rest)}", "leave the rest out", USAGE)
    install(ROOT, dev="--dev" in rest)
    say("ready; `source .venv/bin/activate` gives you the command `engine`")


def _exec(rest: list[str]) -> None:
    if not rest:
        raise BootstrapError("`exec` needs a command", "for example: exec engine --help", USAGE)
    install(ROOT, dev=False)
    _become(rest)


def check_python(version: tuple[int, ...]) -> None:
    """Refuse a Python that is too old, naming a newer one when this machine has it."""
    if version >= OLDEST:
        return
    newer = next((name for name in (f"python3.{n}" for n in range(14, 10, -1)) if shutil.which(name)), None)
    again = f"{newer or 'python3.11'} -m engine.bootstrap {' '.join(sys.argv[1:])}".rstrip()
    raise BootstrapError(
        f"Python {'.'.join(map(str, OLDEST))} or later is needed; this is {'.'.join(map(str, version))}",
        f"type `{again}`" if newer else f"install a newer Python, then type `{again}`",
    )


def _become(command: Sequence[str]) -> NoReturn:
    """Replace this process: signals, exit code and terminal are the command's own."""
    variables = environment(ROOT)
    ours = ROOT / ".venv" / "bin" / command[0]
    program = str(ours) if ours.exists() else shutil.which(command[0], path=variables["PATH"])
    if program is None:
        raise BootstrapError(
            f"there is no command `{command[0]}`", "see `.venv/bin` for what the environment has", USAGE
        )
    sys.stdout.flush()
    os.execve(program, [program, *command[1:]], variables)  # noqa: S606 - the command that the user asked for


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
