"""`engine schema`: write the JSON Schemas that editors and readers use, or check that they are up to date."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.commands.arguments import Parser, choose_action, project_of, show
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.components import Catalogue


def run(argv: Sequence[str]) -> int:
    """Dispatch `write` and `check`."""
    parser = Parser(
        "schema", "JSON Schemas of configs and records, generated from the typed specs and the loaded plugins."
    )
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="NAME", help="a plugin of your own to include; repeatable"
    )
    actions = parser.actions("write|check")
    for name, act, words in (("write", _write, "write them"), ("check", _check, "fail when a byte differs")):
        action = actions.add_parser(name, help=words)
        action.add_argument("folder", nargs="?", default="schemas", help="where (default: schemas)")
        action.set_defaults(act=act)
    return choose_action(parser, parser.parse_args(argv))


def _write(arguments: argparse.Namespace) -> int:
    from engine.config import write_schemas  # noqa: PLC0415 - start-up time of --help

    folder = Path(arguments.folder)
    changed = write_schemas(folder, _catalogue(arguments))
    show("\n".join([*(f"changed {folder / name}" for name in changed), f"{folder} is up to date"]))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from engine.config import check_schemas  # noqa: PLC0415 - start-up time of --help

    folder = Path(arguments.folder)
    differing = check_schemas(folder, _catalogue(arguments))
    for name in differing:
        show(f"differs: {folder / name}")
    show("next: engine schema write" if differing else f"{folder} is up to date")
    return ExitCode.USAGE if differing else ExitCode.OK


def _catalogue(arguments: argparse.Namespace) -> Catalogue:
    """Load the shipped plugins, and those named."""
    from engine.components import load_catalogue  # noqa: PLC0415 - start-up time of --help
    from engine.config import shipped_plugins  # noqa: PLC0415

    return load_catalogue(project_of(arguments).root, (*shipped_plugins(), *arguments.plugin))
