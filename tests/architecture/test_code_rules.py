"""Rules that no linter knows: no pickle anywhere, processes started in few places, files and functions of readable size."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for folder in ("engine", "plugins") for path in (ROOT / folder).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "hydra.utils"}
FORBIDDEN_NAMES = {"eval", "exec", "__import__", "dask.tokenize", "dask.base.tokenize", "os.system", "os.popen"}
STARTERS = {
    "engine/bootstrap.py",
    "engine/commands/runs_again.py",  # git, and this command in another checkout or environment
    "engine/execute/pool.py",
    "engine/installation.py",
    "engine/loop/installing.py",
    "engine/loop/launching.py",
    "engine/provenance.py",
    "engine/trackers/posting.py",  # the sender, which outlives the run
    "plugins/command_trainer/process.py",  # the program that a pipeline declares: it is what this trainer is for
}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def imported(node: ast.AST) -> Iterator[str]:
    """Give the dotted names that a statement imports, with the modules that they lie in."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def violations(name: str, source: str) -> list[str]:
    """Give what a file does that it must not."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = set(imported(node))
        found += [f"imports {module}" for module in names & (FORBIDDEN_MODULES | FORBIDDEN_NAMES)]
        if "subprocess" in names and name not in STARTERS:
            found.append("starts processes")
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            if called in FORBIDDEN_NAMES or called.endswith("utils.instantiate"):
                found.append(f"{node.lineno}: calls {called}")
            options = {option.arg: option.value for option in node.keywords}
            if called in {"np.load", "np.save", "numpy.load", "numpy.save"} and not is_false(
                options.get("allow_pickle")
            ):
                found.append(f"{node.lineno}: {called} without allow_pickle=False")
    return found


def is_false(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_keeps_the_rules(path: Path) -> None:
    source = path.read_text("utf-8")
    name = path.relative_to(ROOT).as_posix()
    assert violations(name, source) == []
    assert source.count("\n") <= LONGEST_FILE
    assert not [word for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X") if word in source]
    long = [
        (node.name, node.end_lineno - node.lineno + 1)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert long == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import dumps",
        "import dask\ndask.tokenize(1)",
        "from dask.base import tokenize",
        "eval('1')",
        "def f():\n    exec('1')",
        "from hydra.utils import instantiate",
        "import hydra\nhydra.utils.instantiate({})",
        "import subprocess",
        "from subprocess import run",
        "import os\nos.system('ls')",
        "import numpy as np\nnp.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
    ],
)
def test_the_rules_can_be_broken(source: str) -> None:
    assert violations("engine/plan/model.py", source)


def test_who_starts_processes_is_there() -> None:
    assert set(NAMES) >= STARTERS
