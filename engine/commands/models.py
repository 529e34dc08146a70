"""`engine models`: what is registered, what is in production and since when, and how to change or undo it."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from engine.commands.arguments import Parser, choose_action, print_json, project_of, show
from engine.commands.tables import render_table
from engine.errors import ExitCode, NotFoundError, UsageError
from engine.records import LedgerEntry, ModelVersion
from engine.stores.artefacts import LocalArtefactStore
from engine.stores.database import open_database
from engine.stores.registry import Registry


def run(argv: Sequence[str]) -> int:
    """Dispatch the actions."""
    parser = Parser("models", "The model registry: versions, aliases and their append-only history.")
    parser.add_argument("--state", metavar="URL", help="the state database (default: the project's)")
    parser.add_argument("--artefacts", metavar="DIR", help="the artefact store (default: the project's)")
    actions = parser.actions("list|show|promote|rollback|history|verify")

    def action(name: str, act: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=words, description=words)
        made.set_defaults(act=act)
        made.add_argument("--json", action="store_true", help="print JSON")
        return made

    action("list", _list, "every model's versions and who holds which alias")
    named = {
        "show": action("show", _show, "one version: what it is, how good, and its card"),
        "promote": action("promote", _promote, "point an alias at a version"),
        "rollback": action("rollback", _rollback, "point an alias back at the last known good version"),
        "history": action("history", _history, "who moved which alias, when and why"),
        "verify": action("verify", _verify, "re-check every digest and the ledger's chain"),
    }
    for made in named.values():
        made.add_argument("model", help="the model's name, as in flights")
    named["show"].add_argument(
        "version", nargs="?", default="champion", help="a number or an alias (default: champion)"
    )
    named["promote"].add_argument("version", type=int, help="the version's number")
    named["promote"].add_argument("--force", action="store_true", help="promote a version that its gates refused")
    for name in ("promote", "rollback"):
        named[name].add_argument("--alias", default="champion")
        named[name].add_argument("--reason", required=True, help="why; kept in the ledger for good")
    named["history"].add_argument("--at", metavar="TIME", help="what held the alias at that time (RFC 3339)")
    named["history"].add_argument("--alias", default="champion")
    return choose_action(parser, parser.parse_args(argv))


def _list(arguments: argparse.Namespace) -> int:
    registry = _registry(arguments)
    versions = [version for name in registry.names() for version in registry.versions(name)]
    if arguments.json:
        print_json(versions)
        return 0
    rows = [_row(version, registry) for version in versions]
    headers = ["model", "version", "alias", "verdict", "run", "created", "digest", "metrics"]
    show(render_table(headers, rows) if rows else "no models yet: `engine run pipeline=…` registers one")
    return 0


def _row(version: ModelVersion, registry: Registry) -> list[str | int | float | None]:
    aliases = [alias for alias, holder in registry.aliases(version.name).items() if holder == version.version]
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in list(version.metrics.items())[:2] if value is not None)
    created = version.created_at[:19].replace("T", " ")
    return [version.name, version.version, ", ".join(aliases) or None, version.verdict, version.run_id, created,
            version.digest[:12], metrics]  # fmt: skip


def _show(arguments: argparse.Namespace) -> int:
    registry = _registry(arguments)
    version = _find(registry, arguments.model, arguments.version)
    folder = _artefacts(arguments).open(version.digest)
    if arguments.json:
        print_json({"version": version, "package": str(folder), "files": _files(folder)})
        return 0
    show(f"{version.name}:{version.version}, run {version.run_id}, verdict {version.verdict}, {version.created_at}")
    show(f"package {version.digest}\n  {folder}\n")
    show((folder / "card.md").read_text(encoding="utf-8").rstrip())
    return 0


def _promote(arguments: argparse.Namespace) -> int:
    registry = _registry(arguments)
    version = _find(registry, arguments.model, str(arguments.version))
    if version.verdict != "promote" and not arguments.force:
        raise UsageError(
            f"{version.name}:{version.version} has the verdict {version.verdict}, so it is not promoted",
            hint="see `engine models show`, and add --force if you take the responsibility",
        )
    _artefacts(arguments).open(version.digest)
    holder = registry.alias(arguments.model, arguments.alias)
    if holder is not None and holder.version == version.version:
        show(f"{version.name}:{version.version} holds @{arguments.alias} already")
        return 0
    entry = registry.move_alias(
        arguments.model,
        arguments.alias,
        expected_version=holder.version if holder else None,
        to_version=version.version,
        action="promote",
        actor=getpass.getuser(),
        reason=arguments.reason,
        run_id=None,
        evidence={"forced": bool(arguments.force), "verdict": version.verdict},
    )
    return _tell(entry, as_json=arguments.json)


def _rollback(arguments: argparse.Namespace) -> int:
    entry = _registry(arguments).rollback(
        arguments.model, arguments.alias, actor=getpass.getuser(), reason=arguments.reason
    )
    return _tell(entry, as_json=arguments.json)


def _history(arguments: argparse.Namespace) -> int:
    registry = _registry(arguments)
    if arguments.model not in registry.names():
        raise NotFoundError(f"no model is called {arguments.model!r}", hint="`engine models list` shows all")
    if arguments.at:
        held = registry.at(arguments.model, arguments.alias, _moment(arguments.at))
        if arguments.json:
            print_json(held)
        else:
            show(
                f"{held.name}:{held.version} (run {held.run_id}, {held.digest[:12]})"
                if held
                else "nothing held it then"
            )
        return 0
    entries = registry.history(arguments.model)
    if arguments.json:
        print_json(entries)
        return 0
    headers = ["#", "when", "action", "alias", "from", "to", "who", "run", "why"]
    show(render_table(headers, [_entry_row(entry) for entry in entries]))
    return 0


def _entry_row(entry: LedgerEntry) -> list[str | int | float | None]:
    return [entry.sequence, entry.at[:19].replace("T", " "), entry.action, entry.alias, entry.from_version, entry.to_version,
            entry.actor, entry.run_id, entry.reason]  # fmt: skip


def _verify(arguments: argparse.Namespace) -> int:
    from engine.nodes.packages import verify_package  # noqa: PLC0415 - imports polars, numpy and the trainer

    registry, artefacts = _registry(arguments), _artefacts(arguments)
    project = project_of(arguments)
    found: dict[str, list[str]] = {"ledger": list(registry.verify_ledger(arguments.model))}
    versions = registry.versions(arguments.model)
    if not versions:
        raise NotFoundError(f"no model is called {arguments.model!r}", hint="`engine models list` shows all")
    for version in versions:
        found[f"{version.name}:{version.version}"] = verify_package(artefacts, version, project)
    wrong = sum(map(len, found.values()))
    if arguments.json:
        print_json({"ok": wrong == 0, "problems": found})
    else:
        for name, problems in found.items():
            show(f"{name}: {'ok' if not problems else ''}" + "".join(f"\n  {problem}" for problem in problems))
    return ExitCode.INTEGRITY if wrong else ExitCode.OK


def _tell(entry: LedgerEntry, *, as_json: bool) -> int:
    if as_json:
        print_json(entry)
    else:
        before = f"{entry.model}:{entry.from_version}" if entry.from_version is not None else "nothing"
        show(f"@{entry.alias}: {before} -> {entry.model}:{entry.to_version} ({entry.action}: {entry.reason})")
    return 0


def _find(registry: Registry, name: str, wanted: str) -> ModelVersion:
    """Find a version by number or alias; raises `NotFoundError` with what there is."""
    versions = registry.versions(name)
    if not versions:
        known = ", ".join(registry.names()) or "none yet"
        raise NotFoundError(f"no model is called {name!r}", hint=f"known: {known}")
    held = None if wanted.isdigit() else registry.alias(name, wanted)
    for version in versions:
        if (held and version.version == held.version) or str(version.version) == wanted:
            return version
    listed = ", ".join(str(version.version) for version in versions)
    raise NotFoundError(
        f"{name} has no version or alias {wanted!r}", hint=f"versions: {listed}; or an alias that is held"
    )


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--at {text}: not a time", hint="write it as in 2026-11-23T08:00:00Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _registry(arguments: argparse.Namespace) -> Registry:
    return Registry(open_database(project_of(arguments).locate(arguments.state, "state.db")))


def _artefacts(arguments: argparse.Namespace) -> LocalArtefactStore:
    return LocalArtefactStore(Path(project_of(arguments).locate(arguments.artefacts, "artefacts")))


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
