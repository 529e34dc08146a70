"""`engine init`: start a project in a folder, with a small pipeline that builds on a shipped one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.commands.arguments import Parser, show
from engine.errors import UsageError

_PIPELINE = """\
# @package _global_
# A pipeline of your own. It builds on the shipped `flights`; change what you like, or write `sources:`, `spine:`,
# `features:` and `label:` from scratch. `engine check pipeline={name}` tells every mistake with its place.

defaults:
  - flights
  - _self_

name: {name}

train:
  rounds: 200
"""

_IGNORE = ".plumbline/\nruns/\n"

_PLUGIN_README = """\
Components of your own: a file `plugins/<name>.py` with `def components() -> tuple[Component, ...]`, listed in a
pipeline or in `conf/config.yaml` under `extra_plugins: [<name>]`. Their parameters appear in the schemas that
`engine schema write` generates.
"""


def run(argv: Sequence[str]) -> int:
    """Write the files that are not there yet; raises `UsageError` for a name that is none."""
    parser = Parser(
        "init", "Start a project: conf/ with a first pipeline, plugins/, .gitignore. Existing files are kept."
    )
    parser.add_argument("folder", nargs="?", default=".", help="where (default: here)")
    parser.add_argument("--name", default="mine", help="the pipeline's name (default: mine)")
    arguments = parser.parse_args(argv)
    if not arguments.name.isidentifier():
        raise UsageError(
            f"--name {arguments.name}: not a name", hint="letters, digits and underscores, not a digit first"
        )
    root = Path(arguments.folder)
    files = {
        f"conf/pipeline/{arguments.name}.yaml": _PIPELINE.format(name=arguments.name),
        "plugins/README.md": _PLUGIN_README,
        ".gitignore": _IGNORE,
    }
    for name, content in files.items():
        show(f"{_write(root / name, content)} {root / name}")
    change = "" if root.resolve() == Path.cwd() else f"cd {root} && "
    show(f"next: {change}engine run pipeline={arguments.name}")
    return 0


def _write(path: Path, content: str) -> str:
    if path.exists():
        return "kept   "
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    return "created"
