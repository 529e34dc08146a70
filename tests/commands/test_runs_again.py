"""The environment in which a run is done again: from the lock with its hashes, or from the versions that the run recorded."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engine.commands.runs_again import build_environment
from engine.errors import UnavailableError
from engine.provenance import read_environment
from engine.records import Environment

ROOT = Path(__file__).resolve().parents[2]


def locked(name: str) -> str:
    """Cut one package with its hashes out of the shipped lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(f"{name}=="))
    end = next(place for place in range(start + 1, len(lines)) if not lines[place].startswith("    --hash"))
    return "\n".join(lines[start:end]) + "\n"


def version_in(python: str, name: str) -> str:
    asked = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True).stdout.strip()


def recorded(**packages: str) -> Environment:
    return Environment(python="3", platform="x", engine="0", packages=packages, cpu_count=1, digest="a" * 64)


def test_the_lock_is_installed_with_its_hashes(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text(locked("threadpoolctl"))
    python = build_environment(tmp_path, None, tmp_path)
    assert version_in(python, "threadpoolctl") == locked("threadpoolctl").partition("==")[2].split()[0]
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "requirements.lock").write_text("threadpoolctl==3.5.0 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(UnavailableError, match="could not be rebuilt"):
        build_environment(wrong, None, wrong)


def test_without_a_lock_the_recorded_versions_are_installed(tmp_path: Path) -> None:
    version = read_environment().packages["threadpoolctl"]
    python = build_environment(tmp_path, recorded(threadpoolctl=version, plumbline="0.0.1"), tmp_path)
    assert version_in(python, "threadpoolctl") == version


def test_with_neither_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"requirements\.lock is missing"):
        build_environment(tmp_path, None, tmp_path)
