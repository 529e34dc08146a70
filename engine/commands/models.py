"""`engine models`: what is registered, what is in production and since when, and how to change or undo it."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from engine.commands.arguments import Parser, choose_action, print_json, project_of, say, show
from engine.commands.models_export import add_export, export_version
from engine.commands.models_history import add_history, tell_history
from engine.commands.tables import render_table
from engine.errors import ExitCode, NotFoundError, UsageError
from engine.model_records import ListedModel, VerifyAnswer
from engine.package_format import check_readable
from engine.production import overdue_reviews, review_of, words_of
from engine.records import LedgerEntry, ModelVersion
from engine.stores.artefacts import LocalArtefactStore
from engine.stores.database import open_database
from engine.stores.ledger import Versions, Why
from engine.stores.registry import Registry


def run(argv: Sequence[str]) -> int:
    """Dispatch the actions."""
    parser = Parser("models", "The model registry: versions, aliases and their append-only history.")
    parser.add_argument("--state", metavar="URL", help="the state database (default: the project's)")
    parser.add_argument("--artefacts", metavar="DIR", help="the artefact store (default: the project's)")
    actions = parser.actions("list|show|promote|rollback|history|verify|export")

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
        "export": action("export", _export, "write a version as ONNX or as an MLflow model, outputs compared"),
    }
    for made in named.values():
        made.add_argument("model", help="the model's name, as in flights")
    named["show"].add_argument(
        "version", nargs="?", default="champion", help="a number or an alias (default: champion)"
    )
    named["show"].add_argument("--how", action="store_true", help="what exactly produced it, and how to do it again")
    named["promote"].add_argument("version", type=int, help="the version's number")
    named["promote"].add_argument("--force", action="store_true", help="promote a version that its gates refused")
    for name in ("promote", "rollback"):
        named[name].add_argument("--alias", default="champion")
        named[name].add_argument("--reason", required=True, help="why; kept in the ledger for good")
    named["rollback"].add_argument(
        "--drill", action="store_true", help="practise it: go back, look that the version is whole, and come again"
    )
    named["promote"].add_argument(
        "--expect", type=int, metavar="VERSION", help="only if that version holds the alias now (0: none does)"
    )
    add_history(named["history"])
    add_export(named["export"])
    return choose_action(parser, parser.parse_args(argv))


def _list(arguments: argparse.Namespace) -> int:
    registry = _registry(arguments)
    versions = [version for name in registry.names() for version in registry.versions(name)]
    artefacts, today = _artefacts(arguments), datetime.now(UTC).date()
    listed = [_listed(version, registry, artefacts, today) for version in versions]
    if arguments.json:
        print_json(listed)
        return 0
    headers = ["model", "version", "alias", "verdict", "run", "created", "digest", "review by", "metrics"]
    show(
        render_table(headers, [_row(item) for item in listed])
        if listed
        else "no models yet: `engine run pipeline=…` registers one"
    )
    for item in listed:
        if item.review is not None and item.review.overdue_days and item.aliases:
            say(f"review overdue: {words_of(item.review)}")
    return 0


def _listed(version: ModelVersion, registry: Registry, artefacts: LocalArtefactStore, today: date) -> ListedModel:
    aliases = tuple(alias for alias, holder in registry.aliases(version.name).items() if holder == version.version)
    marks = [registry.rolled_back(version.name, alias).get(version.version) for alias in ("champion", *aliases)]
    bad = next((f"rolled back from on {entry.at[:10]}: {entry.reason}" for entry in marks if entry), "")
    return ListedModel(version=version, aliases=aliases, review=review_of(version, artefacts, today), bad=bad)


def _row(listed: ListedModel) -> list[str | int | float | None]:
    version, review = listed.version, listed.review
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in list(version.metrics.items())[:2] if value is not None)
    created = version.created_at[:19].replace("T", " ")
    due = f"{review.review_by}{' (overdue)' if review.overdue_days else ''}" if review and review.review_by else None
    held = ", ".join(listed.aliases) or ("(rolled back)" if listed.bad else None)
    return [version.name, version.version, held, version.verdict, version.run_id, created, version.digest[:12], due,
            metrics]  # fmt: skip


def _show(arguments: argparse.Namespace) -> int:
    registry = _registry(arguments)
    names = registry.names()
    if arguments.how and arguments.model not in names and len(names) == 1:  # `engine models show champion --how`
        arguments.model, arguments.version = names[0], arguments.model
    version = _find(registry, arguments.model, arguments.version)
    folder = _artefacts(arguments).open(version.digest)
    if arguments.how:
        from engine.commands.models_how import tell_how  # noqa: PLC0415 - only for --how

        return tell_how(version, folder, project_of(arguments).root / "runs", as_json=arguments.json)
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
    bad = registry.rolled_back(version.name, arguments.alias).get(version.version)
    if bad is not None and not arguments.force:
        raise UsageError(
            f"{version.name}:{version.version} was rolled back from on {bad.at[:10]} by {bad.actor}: {bad.reason}",
            hint="add --force if what was wrong with it is not wrong any more",
        )
    check_readable(_artefacts(arguments).open(version.digest))
    holder = registry.alias(arguments.model, arguments.alias)
    if holder is not None and holder.version == version.version and arguments.expect in (None, holder.version):
        show(f"{version.name}:{version.version} holds @{arguments.alias} already")
        return 0
    evidence = {"forced": bool(arguments.force), "verdict": version.verdict}
    entry = registry.move_alias(
        arguments.model, arguments.alias, Versions(_expected(arguments, holder), version.version),
        Why(getpass.getuser(), arguments.reason, evidence=evidence), action="promote",
    )  # fmt: skip
    return _tell(entry, as_json=arguments.json)


def _expected(arguments: argparse.Namespace, holder: ModelVersion | None) -> int | None:
    """Give the version that the alias is expected at: the one that was named, else the one that was just looked at."""
    if arguments.expect is not None:
        return int(arguments.expect) or None
    return holder.version if holder else None


def _rollback(arguments: argparse.Namespace) -> int:
    if arguments.drill:
        from engine.commands.models_drill import Drill, drill  # noqa: PLC0415 - only for --drill

        return drill(arguments, Drill(_registry(arguments), _artefacts(arguments)))
    why = Why(getpass.getuser(), arguments.reason)
    entry = _registry(arguments).rollback(arguments.model, arguments.alias, why)
    return _tell(entry, as_json=arguments.json)


def _history(arguments: argparse.Namespace) -> int:
    registry = _registry(arguments)
    if arguments.model not in registry.names():
        raise NotFoundError(f"no model is called {arguments.model!r}", hint="`engine models list` shows all")
    return tell_history(arguments, registry, _artefacts(arguments))


def _export(arguments: argparse.Namespace) -> int:
    version = _find(_registry(arguments), arguments.model, arguments.version)
    return export_version(arguments, version, _artefacts(arguments).open(version.digest))


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
    overdue = overdue_reviews(registry, artefacts, datetime.now(UTC).date(), [arguments.model])
    if arguments.json:
        told = {name: tuple(items) for name, items in found.items()}
        print_json(VerifyAnswer(ok=wrong == 0, problems=told, overdue=tuple(overdue)))
    else:
        for review in overdue:
            say(f"review overdue: {words_of(review)}")
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


def _registry(arguments: argparse.Namespace) -> Registry:
    return Registry(open_database(project_of(arguments).locate(arguments.state, "state.db")))


def _artefacts(arguments: argparse.Namespace) -> LocalArtefactStore:
    return LocalArtefactStore(Path(project_of(arguments).locate(arguments.artefacts, "artefacts")))


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
