"""The actions of `engine data` that look at snapshots and decide on them; those about declared sources stand in `data_sources`.

Called by `engine.commands.data` with parsed arguments. Results go to stdout, words for people to stderr.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.commands.arguments import print_json, show, snapshots_of, write_page
from engine.commands.data_sources import do_profile, do_snapshot, do_validate
from engine.commands.data_words import diff_words, findings_words
from engine.commands.gc import collect
from engine.commands.tables import Cell, render_table
from engine.data.quarantine import drop, list_quarantined, release, show_quarantined
from engine.data.repository import Repository, list_sources, read_log, write_out
from engine.errors import NotFoundError, UsageError
from engine.report.numbers import format_bytes
from engine.stores.snapshots import open_snapshots


def do_ls(arguments: argparse.Namespace) -> int:
    """List the sources of a commit, or its objects."""
    repository = _repository(arguments)
    if arguments.objects:
        objects = repository.objects(arguments.ref)
        if arguments.json:
            print_json(objects)
        else:
            show(
                render_table(
                    ["path", "size", "sha256"], [[i.path, format_bytes(i.size), i.digest[:12]] for i in objects]
                )
            )
        return 0
    found = list_sources(repository, arguments.ref)
    if arguments.json:
        print_json(found)
        return 0
    headers = ["source", "rows", "objects", "size", "from", "to", "not met"]
    rows = [
        [item.source, item.rows, item.objects, format_bytes(item.bytes), _day(item.first), _day(item.last),
         ("released: " if item.released else "") + (", ".join(item.failed) or "-")]
        for item in found
    ]  # fmt: skip
    show(render_table(headers, rows) if rows else f"{repository.name}@{arguments.ref} holds no sources")
    return 0


def do_log(arguments: argparse.Namespace) -> int:
    """List commits."""
    found = read_log(_repository(arguments), arguments.ref, arguments.source, arguments.limit)
    if arguments.json:
        print_json(found)
        return 0
    rows = []
    for item in found:
        said = {key.removeprefix("plumbline."): value for key, value in item.metadata.items()}
        rows.append([
            item.id[:12], item.at[:19].replace("T", " "), ", ".join(item.tags) or None, said.get("run"), said.get("actor"),
            said.get("rows"), item.message.partition("\n")[0],
        ])  # fmt: skip
    show(render_table(["commit", "when", "tags", "run", "who", "rows", "what"], rows) if rows else "no such commits")
    return 0


def do_diff(arguments: argparse.Namespace) -> int:
    """Compare two commits."""
    from engine.data.compare import compare  # noqa: PLC0415 - start-up time of the others: it imports numpy
    from engine.report.data_diff import render_diff  # noqa: PLC0415

    repository = _repository(arguments)
    found = compare(repository, arguments.before, arguments.after, arguments.source)
    if arguments.html:
        write_page(arguments.html, render_diff(found))
    if arguments.json:
        print_json(found)
    else:
        show(diff_words(found))
    return 0


def do_tag(arguments: argparse.Namespace) -> int:
    """Name a commit, or list the names."""
    repository = _repository(arguments)
    if arguments.name is not None:
        repository.store.tag(repository.name, arguments.name, arguments.ref)
    tags = dict(repository.store.tags(repository.name))
    if arguments.name is not None:
        tags = {arguments.name: tags[arguments.name]}
    if arguments.json:
        print_json(tags)
    else:
        show(
            render_table(["tag", "commit"], [[name, commit[:12]] for name, commit in tags.items()])
            if tags
            else "no tags"
        )
    return 0


def do_checkout(arguments: argparse.Namespace) -> int:
    """Write sources at a commit to a folder."""
    written = write_out(_repository(arguments), arguments.ref, arguments.sources, Path(arguments.to))
    if arguments.json:
        print_json([str(path) for path in written])
    else:
        show(f"{len(written)} Parquet files of {arguments.repository}@{arguments.ref} in {arguments.to}")
    return 0


def do_quarantine(arguments: argparse.Namespace) -> int:
    """List, show, release or drop what failed."""
    repository = _repository(arguments)
    if arguments.deed == "ls":
        return _list_quarantined(repository, as_json=arguments.json)
    if arguments.branch is None:
        raise UsageError(f"say which branch to {arguments.deed}", hint="engine data quarantine ls")
    if arguments.deed == "show":
        found = show_quarantined(repository, arguments.branch)
        if arguments.json:
            print_json(found)
            return 0
        fate = (
            "nothing of it was published" if found.severity == "block" else f"{found.set_aside:,} rows were set aside"
        )
        show(
            f"{found.branch}: {found.rows:,} rows of {found.source}, run {found.run_id} by {found.actor}, {found.at}; {fate}"
        )
        show(findings_words(found.findings))
        return 0
    if arguments.deed == "release":
        if not arguments.reason:
            raise UsageError("release needs --reason: it is kept in the commit for good", hint="--reason 'why'")
        commit = release(repository, arguments.branch, arguments.reason, arguments.into)
        if arguments.json:
            print_json({"commit": commit.id, "metadata": commit.metadata})
        else:
            show(f"{repository.name}@{arguments.into} is {commit.id[:12]}: {commit.message}")
        return 0
    drop(repository, arguments.branch)
    if arguments.json:
        print_json({"dropped": arguments.branch})
    else:
        show(f"dropped {arguments.branch}; `engine data gc --yes` frees its space")
    return 0


def do_gc(arguments: argparse.Namespace) -> int:
    """Collect what the snapshots no longer need."""
    return collect(arguments, only_data=True)


def _list_quarantined(repository: Repository, *, as_json: bool) -> int:
    found = list_quarantined(repository)
    if as_json:
        print_json(found)
        return 0
    headers = ["branch", "source", "when", "run", "rows", "set aside", "failed"]
    rows: list[list[Cell]] = [
        [item.branch, item.source, item.at[:19].replace("T", " "), item.run_id, item.rows, item.set_aside, "; ".join(item.failed)]
        for item in found
    ]  # fmt: skip
    show(render_table(headers, rows) if rows else "nothing is quarantined")
    return 0


def _repository(arguments: argparse.Namespace) -> Repository:
    if arguments.rest:
        raise UsageError(
            f"engine data {arguments.word}: unknown argument {arguments.rest[0]}", hint="engine data --help"
        )
    store = open_snapshots(snapshots_of(arguments))
    if arguments.repository not in store.repositories():
        known = ", ".join(store.repositories())
        hint = f"there is {known}" if known else "`engine data snapshot pipeline=…` makes it"
        raise NotFoundError(f"no data repository `{arguments.repository}`", hint=hint)
    return Repository(store, arguments.repository)


def _day(moment: str | None) -> str | None:
    return moment[:10] if moment else None


__all__ = [
    "do_checkout",
    "do_diff",
    "do_gc",
    "do_log",
    "do_ls",
    "do_profile",
    "do_quarantine",
    "do_snapshot",
    "do_tag",
    "do_validate",
]
