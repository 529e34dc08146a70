"""`engine features`: what the feature program computes, in a table or one by one. No data is touched."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from engine.commands.arguments import Parser, print_json, project_of, show, split_overrides
from engine.commands.tables import render_table
from engine.errors import NotFoundError, UsageError


def run(argv: Sequence[str]) -> int:
    """Dispatch `list` and `explain NAME`; overrides follow, as in `engine features list pipeline=flights`."""
    parser = Parser("features", "List the features of a pipeline, or explain one.")
    parser.add_argument("action", choices=["list", "explain"], help="list all, or explain one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments, rest = parser.parse_known_args(argv)
    names = [item for item in rest if "=" not in item and not item.startswith("-")]
    described = _describe(arguments, [item for item in rest if item not in names])
    if arguments.action == "list":
        if arguments.json:
            print_json(described)
        else:
            rows = [[item["name"], item["type"], item["kind"], item["words"]] for item in described]
            show(render_table(["feature", "type", "kind", "what it is"], rows))
        return 0
    if len(names) != 1:
        raise UsageError("say which feature", hint="engine features explain NAME pipeline=…")
    item = _pick(described, names[0])
    if arguments.json:
        print_json(item)
    else:
        show("\n".join(f"{key:<10} {_text(value)}" for key, value in item.items() if value not in (None, "", [], ())))
    return 0


def _describe(arguments: argparse.Namespace, overrides: list[str]) -> list[dict[str, Any]]:
    from engine.api import declare  # noqa: PLC0415 - start-up time of --help
    from engine.features.describe import describe  # noqa: PLC0415

    declared = declare(project_of(arguments), split_overrides(overrides))
    return [dict(item) for item in describe(declared.logical.program)]


def _pick(described: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for item in described:
        if item["name"] == name:
            return item
    near = get_close_matches(name, [item["name"] for item in described], 3)
    raise NotFoundError(
        f"no feature is called {name!r}", hint=f"near: {', '.join(near)}" if near else "engine features list"
    )


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
