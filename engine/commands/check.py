"""`engine check`: validate a pipeline's declaration without touching data."""

from __future__ import annotations

from collections.abc import Sequence

from engine.commands.arguments import Parser, print_json, project_of, show, split_overrides


def run(argv: Sequence[str]) -> int:
    """Compose, validate, compile the features; print a summary, or raise `ConfigError` with every mistake."""
    parser = Parser("check", "Validate a pipeline's declaration without touching data.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments, rest = parser.parse_known_args(argv)
    from engine.api import declare  # noqa: PLC0415 - start-up time of --help

    declared = declare(project_of(arguments), split_overrides(rest))
    spec, logical = declared.spec, declared.logical
    summary = {
        "pipeline": spec.name,
        "sources": len(spec.sources),
        "features": len(logical.program.feature_names),
        "gates": list(spec.gates),
        "nodes": [node.name for node in logical.nodes],
        "program_digest": logical.program.digest,
    }
    if arguments.json:
        print_json({"ok": True, **summary})
    else:
        show(
            f"{spec.name}: ok: {summary['sources']} sources, {summary['features']} features, "
            f"{len(spec.gates)} gates, {len(logical.nodes)} nodes"
        )
    return 0
