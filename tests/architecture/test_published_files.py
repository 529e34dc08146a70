"""What the repository shows to the world: no machine's paths or registries, locks that fit, schemas that are current."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from engine.components import load_catalogue
from engine.config import check_schemas, shipped_plugins

ROOT = Path(__file__).resolve().parents[2]
# Written in halves, so that this file does not find itself.
HOSTS = ("pypi" + r"\.org", "python" + "hosted", "conda" + r"\.anaconda", "/simple" + r"/?$", "find" + "-links")
FOLDERS = ("ro" + "ot", "wo" + "rk", "ho" + r"me/\w+")
PLACES = re.compile("|".join([*HOSTS, *(rf"(?<![\w.)>}}-])/{name}/" for name in FOLDERS)]), re.MULTILINE)
MAY_NAME_AN_OPTION = {"Makefile"}  # it unsets the variable that would bring a machine's own index into the locks


def published() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout: there is no list of published files")
    return [ROOT / name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in published():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in PLACES.finditer(text)]
    assert [line for line in found if line.split(":")[0] not in MAY_NAME_AN_OPTION] == []


@pytest.mark.parametrize(
    "text",
    ["see /ro" + "ot/x", "'/wo" + "rk/main'", "https://pypi" + ".org/x", "--find" + "-links x"],
)
def test_the_pattern_finds_what_it_should(text: str) -> None:
    assert PLACES.search(text)


def pins(name: str) -> dict[str, set[Version]]:
    """Give each package's versions in a lock."""
    found: dict[str, set[Version]] = {}
    for line in (ROOT / name).read_text("utf-8").splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", line):
            found.setdefault(canonicalize_name(match[1]), set()).add(Version(match[2]))
    return found


def test_every_declared_dependency_is_locked_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    for lock, declared in (
        ("requirements.lock", [*project["dependencies"], *extras["examples"]]),
        ("requirements-dev.lock", [*project["dependencies"], *extras["examples"], *extras["dev"]]),
    ):
        locked = pins(lock)
        for requirement in map(Requirement, declared):
            versions = locked.get(canonicalize_name(requirement.name))
            assert versions, f"{lock} lacks {requirement.name}: make lock"
            assert all(requirement.specifier.contains(version) for version in versions), (lock, requirement)


def test_the_development_lock_contains_the_other() -> None:
    development = pins("requirements-dev.lock")
    assert {name: development.get(name) for name in pins("requirements.lock")} == pins("requirements.lock")


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_locked_file_has_its_hash(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", "\n" + (ROOT / lock).read_text("utf-8"))
    packages = [entry for entry in entries if "==" in entry and not entry.lstrip().startswith("#")]
    assert len(packages) > 40
    assert all("--hash=sha256:" in entry for entry in packages)


def test_the_schemas_are_those_of_the_shipped_plugins() -> None:
    catalogue = load_catalogue(ROOT, shipped_plugins())
    assert check_schemas(ROOT / "schemas", catalogue) == [], "run `make schema`"
