"""What commands share on the command line: a parser that leaves overrides to Hydra, the project, and output as JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from engine.errors import EngineError, UsageError
from engine.project import Project, find_project


class Parser(argparse.ArgumentParser):
    """An `argparse` parser whose mistakes are `UsageError`s, and that never guesses from a flag's first letters."""

    def __init__(self, command: str, description: str, *, epilog: str | None = None) -> None:
        super().__init__(
            prog=f"engine {command}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--project", metavar="DIR", help="the project's folder (default: the nearest with conf/)")

    def actions(self, names: str) -> argparse._SubParsersAction[argparse.ArgumentParser]:
        """Add a second word, as in `engine runs list`; each action sets `act` as its default."""
        return self.add_subparsers(dest="action", metavar=names, parser_class=_ActionParser)

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting, so that every mistake takes the same way out."""
        raise UsageError(f"{self.prog}: {message}", hint=f"{self.prog} --help")


class _ActionParser(argparse.ArgumentParser):
    """A sub-parser whose mistakes are `UsageError`s too."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}", hint=f"{self.prog} --help")


def choose_action(parser: Parser, arguments: argparse.Namespace) -> int:
    """Call the chosen action; raises `UsageError` when none was."""
    if not hasattr(arguments, "act"):
        raise UsageError(f"{parser.prog}: say what to do", hint=f"{parser.prog} --help")
    return int(arguments.act(arguments))


def project_of(arguments: argparse.Namespace) -> Project:
    """Give the project that a command is about; raises `UsageError` when the folder does not exist."""
    if arguments.project is None:
        return find_project(Path.cwd())
    root = Path(arguments.project)
    if not root.is_dir():
        raise UsageError(f"--project {arguments.project}: no such folder")
    return Project(root.resolve())


def snapshots_of(arguments: argparse.Namespace) -> str:
    """Give the snapshot store's URL: `--snapshots`, else what the project's pipelines say under `stores`.

    Raises `UsageError` when they say different things.
    """
    project = project_of(arguments)
    if arguments.snapshots is not None:
        return project.locate(arguments.snapshots, "snapshots")
    from engine.config import compose, list_pipelines, load_settings  # noqa: PLC0415 - Hydra, only where it is needed
    from engine.locations import Stores  # noqa: PLC0415

    found: dict[str, str] = {}
    for name in list_pipelines(project):
        with suppress(EngineError):  # a mistake in a pipeline is for `engine check` to tell
            settings = load_settings(compose(project, (f"pipeline={name}",)))
            found.setdefault(Stores(project, settings).snapshots_url, name)
    if len(found) > 1:
        listed = "; ".join(f"{name}: {url}" for url, name in found.items())
        raise UsageError(f"the project's pipelines use several snapshot stores ({listed})", hint="say --snapshots URL")
    return next(iter(found), project.locate(None, "snapshots"))


def write_page(target: str, page: str) -> None:
    """Write what `--html` asks for; raises `UsageError` when the file cannot be written."""
    path = Path(target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--html {target}: {error.strerror or error}", hint="name a file in a folder that may be written"
        ) from error
    say(f"wrote {path}")


def positive(text: str) -> int:
    """Read a count of at least one from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def split_overrides(rest: Sequence[str]) -> list[str]:
    """Give the overrides among what the parser left; raises `UsageError` for a flag that nobody knows."""
    flags = [item for item in rest if item.startswith("-")]
    if flags:
        raise UsageError(f"unknown flag {flags[0]}")
    return list(rest)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def say(text: str) -> None:
    """Tell people something, on stderr."""
    print(text, file=sys.stderr)


def show(text: str) -> None:
    """Print a result, on stdout."""
    print(text)
