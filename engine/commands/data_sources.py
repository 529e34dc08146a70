"""The actions of `engine data` about the sources that a pipeline declares: snapshot, profile, validate.

Called by `engine.commands.data_actions`. Words before the overrides name sources; `profile` takes a file too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from engine.commands.arguments import print_json, project_of, say, show, snapshots_of, write_page
from engine.commands.data_words import findings_words, profile_words
from engine.errors import ExitCode, NotFoundError, UsageError

if TYPE_CHECKING:
    from engine.data.declared import SourceReader
    from engine.data_records import TableProfile


def do_snapshot(arguments: argparse.Namespace) -> int:
    """Run the ingestions of a pipeline, as a run of its own; those too that no feature reads yet."""
    from engine.api import declare, plan  # noqa: PLC0415 - start-up time of the other actions
    from engine.clock import SystemClock  # noqa: PLC0415
    from engine.dag import ancestors  # noqa: PLC0415
    from engine.execute.progress import choose_progress  # noqa: PLC0415
    from engine.plan.logical import ingest_unread  # noqa: PLC0415
    from engine.provenance import GitProbe  # noqa: PLC0415
    from engine.running import Around, RunOptions, answer, execute_run  # noqa: PLC0415

    names, overrides = _split(arguments)
    project = project_of(arguments)
    git = GitProbe(project.root).start()
    declared = declare(project, overrides)
    planned = plan(replace(declared, logical=ingest_unread(declared.logical)))
    ingests = [node.name for node in planned.plan.nodes if node.kind in {"ingest", "checkout"}]
    wanted = [_nearest(f"ingest.{name}", ingests) for name in names] or ingests
    selected = frozenset(ancestors(planned.plan.edges, wanted))
    display = choose_progress(quiet=False, ndjson=None, log_format="text")
    options = RunOptions(nodes=selected, command=("engine", "data", "snapshot", *arguments.words))
    try:
        record, folder = execute_run(planned, options, Around(display, SystemClock(), git))
    finally:
        display.close()
    if arguments.json:
        print_json(answer(record, folder) if record.error else record.snapshots)
        return record.exit_code
    for pin in record.snapshots:
        aside = f"; {pin.set_aside:,} rows set aside on {pin.quarantine}" if pin.quarantine else ""
        show(f"{pin.source}: {pin.repository}@{pin.commit[:12]}, {pin.rows:,} rows{aside}")
    if record.error:
        print(f"error: {record.error}", file=sys.stderr)
    return record.exit_code


def do_profile(arguments: argparse.Namespace) -> int:
    """Put a source, a snapshot of it or a file into numbers."""
    from engine.report.data_profile import render_profile  # noqa: PLC0415 - start-up time of the other actions

    names, overrides = _split(arguments)
    if len(names) != 1:
        raise UsageError("say which source or file", hint="engine data profile SOURCE pipeline=NAME, or a file's path")
    profile = _profile(arguments, names[0], overrides)
    if arguments.write is not None:
        from engine.data.inference import write_expectations  # noqa: PLC0415

        default = project_of(arguments).conf / "expect" / f"{profile.name}.yaml"
        path = Path(arguments.write) if arguments.write else default
        write_expectations(profile, path)
        say(f"wrote {path}: review it, then take it into the pipeline's defaults with `- /expect: {path.stem}`")
    if arguments.html:
        write_page(arguments.html, render_profile(profile))
    if arguments.json:
        print_json(profile)
    else:
        show(profile_words(profile))
    return 0


def do_validate(arguments: argparse.Namespace) -> int:
    """Audit sources; gives exit code 5 when a blocking expectation fails."""
    names, overrides = _split(arguments)
    reader = _reader(arguments, overrides)
    found = [reader.validate(name) for name in names or sorted(reader.declared.logical.sources)]
    if arguments.json:
        print_json(found if len(names) != 1 else found[0])
    else:
        for item in found:
            aside = f", {item.set_aside:,} would be set aside" if item.set_aside else ""
            show(f"{item.source}: {'ok' if item.ok else 'failed'}, {item.rows:,} rows{aside}")
            show(findings_words(item.findings, only_failed=False))
    return ExitCode.OK if all(item.ok for item in found) else ExitCode.QUARANTINED


def _profile(arguments: argparse.Namespace, name: str, overrides: Sequence[str]) -> TableProfile:
    from engine.clock import SystemClock  # noqa: PLC0415 - start-up time of the other actions
    from engine.data.declared import read_rows  # noqa: PLC0415
    from engine.data.repository import Repository  # noqa: PLC0415
    from engine.nodes.frames import collect  # noqa: PLC0415
    from engine.profiling.columns import profile_table  # noqa: PLC0415
    from engine.stores.snapshots import open_snapshots  # noqa: PLC0415

    now = SystemClock().now()
    if arguments.ref is not None:
        store = open_snapshots(snapshots_of(arguments))
        rows = collect(Repository(store, arguments.repository).scan(arguments.ref, name), f"source `{name}`")
        return profile_table(name, rows, now)
    if overrides:
        return profile_table(name, _reader(arguments, overrides).read(name).frame, now)
    path = Path(name)
    if not path.is_file():
        raise NotFoundError(
            f"there is no file {name}", hint=f"for a declared source say which pipeline: `{name} pipeline=NAME`"
        )
    return profile_table(path.name.partition(".")[0], read_rows(path), now)


def _reader(arguments: argparse.Namespace, overrides: Sequence[str]) -> SourceReader:
    from engine.api import declare  # noqa: PLC0415 - start-up time of the other actions
    from engine.data.declared import SourceReader  # noqa: PLC0415
    from engine.locations import Stores  # noqa: PLC0415

    project = project_of(arguments)
    declared = declare(project, overrides)
    url = arguments.snapshots or Stores(project, declared.settings).snapshots_url
    return SourceReader(declared, url, _say_nothing)


def _say_nothing(message: str, rows: int | None, done: float | None) -> None:
    """Hear progress; a look at a source has nobody to tell it to."""


def _split(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Tell names from overrides."""
    words = [*arguments.words, *arguments.rest]
    return [word for word in words if "=" not in word], [word for word in words if "=" in word]


def _nearest(name: str, known: Sequence[str]) -> str:
    if name in known:
        return name
    near = get_close_matches(name, known, 1)
    meant = f" (did you mean `{near[0].removeprefix('ingest.')}`?)" if near else ""
    raise NotFoundError(
        f"this pipeline ingests no source `{name.removeprefix('ingest.')}`{meant}",
        hint=f"it ingests: {', '.join(item.removeprefix('ingest.') for item in known)}",
    )
