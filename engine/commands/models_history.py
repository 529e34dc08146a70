"""`engine models history`: the ledger, or with `--on` what was in production then, why, by whom, and what exactly it was."""

from __future__ import annotations

import argparse

from engine.commands.arguments import print_json, show
from engine.commands.tables import render_table
from engine.contracts import ArtefactStore
from engine.model_records import ProductionAnswer, Tenure
from engine.production import describe_tenure, parse_span, tenures_between
from engine.records import LedgerEntry
from engine.stores.registry import Registry


def add_history(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the action."""
    parser.add_argument("--alias", default="champion")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--on", metavar="DAY", help="all that held the alias on that day (UTC), or at that time")
    when.add_argument("--at", metavar="TIME", help="what held the alias at that time (RFC 3339)")


def tell_history(arguments: argparse.Namespace, registry: Registry, store: ArtefactStore) -> int:
    """Print the ledger, or what held the alias."""
    when = arguments.on or arguments.at
    if when:
        span = parse_span(when)
        found = tenures_between(registry, arguments.model, arguments.alias, span)
        tenures = tuple(describe_tenure(tenure, store) for tenure in found)
        return _tell_production(arguments, span, tenures)
    entries = registry.history(arguments.model)
    if arguments.json:
        print_json(entries)
        return 0
    headers = ["#", "when", "action", "alias", "from", "to", "who", "run", "why"]
    show(render_table(headers, [_row(entry) for entry in entries]))
    return 0


def _tell_production(arguments: argparse.Namespace, span: tuple[str, str], tenures: tuple[Tenure, ...]) -> int:
    if arguments.json:
        answer = ProductionAnswer(
            model=arguments.model, alias=arguments.alias, from_=span[0], to=span[1], tenures=tenures
        )
        print_json(answer)
        return 0
    if not tenures:
        show(f"nothing held @{arguments.alias} of {arguments.model} then")
    for tenure in tenures:
        show("\n".join(_words(tenure)))
    return 0


def _words(tenure: Tenure) -> list[str]:
    until = f"until {_minute(tenure.until)}" if tenure.until else "until now"
    lines = [
        f"{tenure.model}:{tenure.version} held @{tenure.alias} from {_minute(tenure.since)} {until}",
        f"  why       {tenure.action}: {tenure.reason}",
        f"  by        {tenure.actor}" + (f", run {tenure.run_id}" if tenure.run_id else ""),
        f"  package   {tenure.digest}",
        f"  model     {tenure.model_digest}",
    ]
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in tenure.metrics.items() if value is not None)
    gates = ", ".join(f"{name} {status}" for name, status in tenure.gates.items())
    commit = tenure.git.get("commit")
    git = f"{commit}{' with uncommitted changes' if tenure.git.get('dirty') else ''}" if commit else ""
    data = ", ".join(f"{name} {pin}" for name, pin in tenure.snapshots.items())
    more = (
        ("metrics", metrics),
        ("gates", gates),
        ("owner", tenure.owner),
        ("git", git),
        ("data", data),
        ("missing", tenure.missing),
    )
    return lines + [f"  {name:<9} {value}" for name, value in more if value]


def _minute(at: str | None) -> str:
    return (at or "")[:19].replace("T", " ")


def _row(entry: LedgerEntry) -> list[str | int | float | None]:
    return [entry.sequence, _minute(entry.at), entry.action, entry.alias, entry.from_version, entry.to_version, entry.actor,
            entry.run_id, entry.reason]  # fmt: skip
