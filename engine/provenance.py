"""Where and with what a run happened: git state and environment. Standard library only; cheap enough for a no-op run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from engine import __version__
from engine.keys import digest
from engine.records import Environment, GitState

_GIT_SECONDS = 5


class GitProbe:
    """Asks git in the background: start it early, `read` it late."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._process: subprocess.Popen[str] | None = None
        self._answer: GitState | None = None

    def start(self) -> GitProbe:
        """Start the question; a machine without git answers with nulls."""
        try:
            self._process = subprocess.Popen(
                ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no"],  # noqa: S607 - the user's git
                cwd=self._root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        except OSError:
            self._process = None
        return self

    def read(self) -> GitState:
        """Give commit, branch and dirtiness; all null outside a work tree, or when git takes too long. Asks once."""
        if self._answer is None:
            self._answer = self._wait()
        return self._answer

    def _wait(self) -> GitState:
        if self._process is None:
            return GitState()
        try:
            answer, _ = self._process.communicate(timeout=_GIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return GitState()
        return parse_git_status(answer) if self._process.returncode == 0 else GitState()


def parse_git_status(answer: str) -> GitState:
    r"""Read the output of `git status --porcelain=v2 --branch`.

    >>> parse_git_status("# branch.oid abc\n# branch.head main\n1 .M N... engine/api.py\n")
    GitState(commit='abc', branch='main', dirty=True)
    """
    header = dict(
        line[2:].split(" ", 1) for line in answer.splitlines() if line.startswith("# branch.") and " " in line[2:]
    )
    commit = header.get("branch.oid")
    return GitState(
        commit=None if commit == "(initial)" else commit,
        branch=header.get("branch.head"),
        dirty=any(not line.startswith("#") for line in answer.splitlines()),
    )


def read_environment() -> Environment:
    """List interpreter, platform and installed distributions, from the names of their metadata folders."""
    packages: dict[str, str] = {}
    for folder in sys.path:
        if folder and Path(folder).is_dir():
            for entry in os.scandir(folder):
                match = re.fullmatch(r"(.+?)-([^-]+)\.dist-info", entry.name)
                if match:
                    packages.setdefault(match[1].replace("_", "-").lower(), match[2])
    ordered = dict(sorted(packages.items()))
    python, machine = sys.version.split()[0], f"{sys.platform}-{os.uname().machine}"
    return Environment(
        python=python,
        platform=machine,
        engine=__version__,
        packages=ordered,
        cpu_count=os.cpu_count() or 1,
        digest=digest({"python": python, "platform": machine, "packages": ordered}),
    )
