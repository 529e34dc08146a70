"""`engine schema`: write the JSON Schemas that editors and readers use, or check that they are up to date."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from engine.commands.arguments import Parser, choose_action, project_of, show
from engine.errors import ExitCode


def run(argv: Sequence[str]) -> int:
    """Dispatch `write` and `check`."""
    parser = Parser("schema", "JSON Schemas of configs and records, generated from the typed specs and the loaded plugins.")
    parser.add_argument("--plugin", action="append", default=[], metavar="NAME", help="a plugin of your own to include; repeatable")
    actions = parser.actions("write|check")
    for name, act, words in (("write", _write, "write them"), ("check", _check, "fail when a byte differs")):
        action = actions.add_parser(name, help=words)
        action.add_argument("folder", nargs="?", default="schemas", help="where (default: schemas)")
        action.set_defaults(act=act)
    return choose_action(parser, parser.parse_args(argv))


def _write(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    schemas = _generate(arguments)
    for name, content in schemas.items():
        (folder / name).write_bytes(content)
    for stale in sorted({path.name for path in folder.glob("*.json")} - schemas.keys()):
        show(f"not generated any more, delete it: {folder / stale}")
    show(f"wrote {len(schemas)} schemas to {folder}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.folder)
    differing = [name for name, content in _generate(arguments).items() if _read(folder / name) != content]
    for name in differing:
        show(f"differs: {folder / name}")
    show("run `engine schema write`" if differing else f"{folder} is up to date")
    return ExitCode.USAGE if differing else ExitCode.OK


def _generate(arguments: argparse.Namespace) -> dict[str, bytes]:
    from engine.components import load_catalogue  # noqa: PLC0415 - start-up time of --help
    from engine.config import shipped_plugins  # noqa: PLC0415
    from engine.spec.schema import generate_schemas  # noqa: PLC0415

    project = project_of(arguments)
    return dict(generate_schemas(load_catalogue(project.root, (*shipped_plugins(), *arguments.plugin))))


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
