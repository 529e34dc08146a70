"""`engine features`: list the features of a pipeline; `explain` and `test` live in modules of their own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.commands.arguments import Parser, print_json, project_of, show, split_overrides
from engine.commands.tables import render_table
from engine.errors import UsageError

ACTIONS = {
    "list": "engine.commands.features",
    "explain": "engine.commands.features_explain",
    "test": "engine.commands.features_cases",
    "materialize": "engine.commands.features_materialize",
    "parity": "engine.commands.features_parity",
}


def run(argv: Sequence[str]) -> int:
    """Dispatch the actions; each takes its own flags, and overrides, as in `engine features list pipeline=flights`."""
    chosen = next((item for item in argv if item in ACTIONS), None)
    if chosen is None:
        parser = Parser(
            "features", "List a pipeline's features, explain one, run their tests, fill their online state."
        )
        parser.add_argument("action", choices=list(ACTIONS), help="`engine features ACTION --help` tells its flags")
        parser.parse_args([item for item in argv if "=" not in item])
        raise UsageError("engine features: say what to do", hint="engine features --help")
    rest = list(argv)
    rest.remove(chosen)
    if chosen == "list":
        return list_features(rest)
    return int(importlib.import_module(ACTIONS[chosen]).run(rest))


def list_features(argv: Sequence[str]) -> int:
    """List all, or those that the filters leave; no data is touched."""
    parser = Parser("features list", "List the features of a pipeline.")
    parser.add_argument("--tag", help="only features with this tag; `--tag pii` also those derived from personal data")
    parser.add_argument("--owner", help="only this owner's")
    parser.add_argument("--source", help="only those that read this source")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments, rest = parser.parse_known_args(argv)
    from engine.api import declare  # noqa: PLC0415 - start-up time of --help
    from engine.features.describe import describe  # noqa: PLC0415

    declared = declare(project_of(arguments), split_overrides(rest))
    kept = [item for item in describe(declared.logical.program, declared.spec) if _wanted(item, vars(arguments))]
    if arguments.json:
        print_json(kept)
    elif not kept:
        show("no feature is like that")
    else:
        rows = [[item["name"], item["type"], item["kind"], item["owner"] or None, _tags(item), item["words"]]
                for item in kept]  # fmt: skip
        show(render_table(["feature", "type", "kind", "owner", "tags", "what it is"], rows))
    return 0


_FILTERS: Mapping[str, Callable[[Mapping[str, Any], str], bool]] = {
    "tag": lambda item, tag: tag in item["tags"] or (tag == "pii" and item["pii"] is not None),
    "owner": lambda item, owner: item["owner"] == owner,
    "source": lambda item, source: item["source"] == source,
}


def _wanted(item: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(wanted[key] is None or holds(item, wanted[key]) for key, holds in _FILTERS.items())


def _tags(item: Mapping[str, Any]) -> str | None:
    """The tags; a feature that is merely derived from personal data says so."""
    derived = ["pii (derived)"] if item["pii"] == "derived" else []
    return ", ".join([*item["tags"], *derived]) or None
