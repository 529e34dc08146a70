"""`engine data`: what is versioned and what changed, what a source looks like, what failed, and what to do about it.

This module holds the command line; each action is a function of `engine.commands.data_actions`, imported when it is called.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence

from engine.commands.arguments import Parser, choose_action, positive
from engine.commands.gc import add_flags
from engine.errors import UsageError

EPILOG = """\
A REF is a branch, a tag, a commit id, or one of those with ~n. SOURCE and overrides are as in `engine run`:
  engine data snapshot pipeline=flights            ingest its sources now, and nothing else
  engine data diff main~1 main flights --html diff.html
  engine data profile flights pipeline=flights --write
  engine data quarantine release quarantine-flights-0a1b2c3d4e5f --reason "negative distances are refunds"
Exit codes: 5 when data failed a blocking expectation."""


def run(argv: Sequence[str]) -> int:
    """Dispatch the actions."""
    parser = Parser(
        "data", "Versioned data: look, compare, profile, validate, and decide on what failed.", epilog=EPILOG
    )
    parser.add_argument("--snapshots", metavar="URL", help="the snapshot store (default: the project's)")
    parser.add_argument("--repository", metavar="NAME", default="data", help="the data repository (default: data)")
    actions = parser.actions("ls|snapshot|log|diff|tag|checkout|profile|validate|quarantine|gc")

    def action(name: str, words: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=words, description=words)
        made.set_defaults(act=_late(name), word=name)
        if name != "gc":
            made.add_argument("--json", action="store_true", help="print JSON")
        return made

    _add_looks(action)
    _add_declared(action)
    _add_quarantine(action("quarantine", "what failed and lies on a branch of its own: list, show, release, drop"))
    add_flags(action("gc", "find objects that no run, model, tag or branch needs; delete them with --yes"))
    arguments, rest = parser.parse_known_args(argv)
    arguments.rest = _overrides(rest)
    return choose_action(parser, arguments)


def _add_looks(action: Callable[[str, str], argparse.ArgumentParser]) -> None:
    listing = action("ls", "the sources that a commit holds")
    listing.add_argument("ref", nargs="?", default="main", metavar="REF")
    listing.add_argument("--objects", action="store_true", help="list every object")
    log = action("log", "commits, newest first")
    log.add_argument("ref", nargs="?", default="main", metavar="REF")
    log.add_argument("--source", metavar="SOURCE", help="only the commits of this source")
    log.add_argument("--limit", type=positive, default=20, metavar="N")
    diff = action("diff", "what differs between two commits: objects, rows, columns, distributions")
    diff.add_argument("before", metavar="A")
    diff.add_argument("after", nargs="?", default="main", metavar="B")
    diff.add_argument("source", nargs="?", metavar="SOURCE")
    diff.add_argument("--html", metavar="FILE", help="write a page that needs no network")
    tag = action("tag", "name a commit for good, or list the names")
    tag.add_argument("name", nargs="?", metavar="NAME")
    tag.add_argument("ref", nargs="?", default="main", metavar="REF")
    checkout = action("checkout", "write sources as they were at a commit to plain Parquet files")
    checkout.add_argument("ref", metavar="REF")
    checkout.add_argument("sources", nargs="*", metavar="SOURCE")
    checkout.add_argument("--to", required=True, metavar="DIR", help="a folder that is empty or does not exist")


def _add_declared(action: Callable[[str, str], argparse.ArgumentParser]) -> None:
    snapshot = action("snapshot", "ingest, validate and publish the sources of a pipeline, and run nothing else")
    snapshot.add_argument("words", nargs="*", metavar="[SOURCE …] pipeline=NAME")
    profile = action("profile", "a source or a file in numbers; --write infers a first set of expectations")
    profile.add_argument("words", nargs="+", metavar="SOURCE pipeline=NAME | FILE")
    profile.add_argument("--ref", metavar="REF", help="the source as this commit holds it, instead of as it is now")
    profile.add_argument("--html", metavar="FILE", help="write a page that needs no network")
    profile.add_argument(
        "--write",
        nargs="?",
        const="",
        metavar="FILE",
        help="write inferred expectations to review (default: conf/expect/SOURCE.yaml)",
    )
    validate = action("validate", "audit a source as its ingestion would, and publish nothing")
    validate.add_argument("words", nargs="+", metavar="[SOURCE …] pipeline=NAME")


def _add_quarantine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("deed", choices=["ls", "show", "release", "drop"], metavar="ls|show|release|drop")
    parser.add_argument("branch", nargs="?", metavar="BRANCH", help="its name, or the end of it")
    parser.add_argument("--reason", help="why the data may be published nevertheless; kept in the commit for good")
    parser.add_argument("--into", default="main", metavar="BRANCH", help="where a release goes (default: main)")


def _late(name: str) -> Callable[[argparse.Namespace], int]:
    """Give an action that is imported when it is called: listing help must not import a git library."""

    def act(arguments: argparse.Namespace) -> int:
        return int(getattr(importlib.import_module("engine.commands.data_actions"), f"do_{name}")(arguments))

    return act


def _overrides(rest: Sequence[str]) -> list[str]:
    flags = [item for item in rest if item.startswith("-") or "=" not in item]
    if flags:
        raise UsageError(f"engine data: unknown argument {flags[0]}", hint="engine data --help")
    return list(rest)
