"""`engine gc`: delete artefacts that no kept run and no registered model needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.commands.arguments import Parser, print_json, project_of, show
from engine.errors import EngineError, UsageError
from engine.runs import list_folders
from engine.stores.artefacts import LocalArtefactStore
from engine.stores.database import open_database
from engine.stores.registry import Registry


def run(argv: Sequence[str]) -> int:
    """Keep what the latest runs and every registered model refer to; delete the rest that is old enough."""
    parser = Parser(
        "gc", "Delete artefacts that no kept run and no registered model needs. Run folders are not touched."
    )
    parser.add_argument(
        "--keep-runs", type=int, default=20, metavar="N", help="the latest runs whose results stay (default: 20)"
    )
    parser.add_argument(
        "--older-than", type=float, default=24.0, metavar="HOURS", help="spare what is younger (default: 24)"
    )
    parser.add_argument("--runs-dir", metavar="DIR", default="runs")
    parser.add_argument("--artefacts", metavar="DIR", help="the artefact store (default: the project's)")
    parser.add_argument("--state", metavar="URL", help="the state database (default: the project's)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.keep_runs < 0 or arguments.older_than < 0:
        raise UsageError("--keep-runs and --older-than are not negative")
    project = project_of(arguments)
    registry = Registry(open_database(project.locate(arguments.state, "state.db")))
    store = LocalArtefactStore(Path(project.locate(arguments.artefacts, "artefacts")))
    keep = _of_models(registry) | _of_runs(project.root / arguments.runs_dir, arguments.keep_runs)
    deleted = store.collect_garbage(keep, older_than=arguments.older_than * 3600)
    store.sweep_staging()
    if arguments.json:
        print_json({"kept": len(keep), "deleted": deleted})
    else:
        show(f"kept {len(keep)} artefacts that runs and models need; deleted {deleted}")
    return 0


def _of_models(registry: Registry) -> set[str]:
    versions = [version for name in registry.names() for version in registry.versions(name)]
    return {digest for version in versions for digest in (version.digest, version.content_digest) if digest}


def _of_runs(root: Path, count: int) -> set[str]:
    kept: set[str] = set()
    for folder in list_folders(root)[-count:] if count else []:
        try:
            record = folder.read_record()
        except EngineError:
            continue
        kept |= {node.output.digest for node in record.nodes if node.output}
    return kept
