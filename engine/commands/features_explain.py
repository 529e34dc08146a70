"""`engine features explain NAME`: what a feature is, where it comes from, who uses it, what it was and what it costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine.commands.arguments import Parser, print_json, project_of, say, show, split_overrides
from engine.errors import EngineError, NotFoundError, UsageError
from engine.records import FeatureExplanation, RunRecord

if TYPE_CHECKING:
    from engine.api import Declared
    from engine.features.program import FeatureProgram
    from engine.locations import Stores

_NO_RUN = "no finished run of this pipeline, so nulls, distribution and cost are not known: engine run pipeline=…"


def run(argv: Sequence[str]) -> int:
    """Explain one feature in words, as JSON, or as a picture; overrides follow its name."""
    parser = Parser("features explain", "Explain one feature: definition, lineage, users, nulls, distribution, cost.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--graph", metavar="FILE.svg", help="draw its lineage")
    parser.add_argument("--no-cost", action="store_true", help="do not measure what it costs")
    arguments, rest = parser.parse_known_args(argv)
    names = [item for item in rest if "=" not in item and not item.startswith("-")]
    if len(names) != 1:
        raise UsageError("say which feature", hint="engine features explain NAME pipeline=…")
    from engine.api import declare  # noqa: PLC0415 - start-up time of --help

    declared = declare(project_of(arguments), split_overrides([item for item in rest if item not in names]))
    told = explain(declared, names[0], cost=not arguments.no_cost)
    if arguments.json:
        print_json(told)
    else:
        show("\n".join(_lines(told)))
    if arguments.graph:
        _draw(declared.logical.program, told, arguments.graph)
    return 0


def explain(declared: Declared, name: str, *, cost: bool) -> FeatureExplanation:
    """Put together everything that is known of a feature; raises `NotFoundError` with near names."""
    from engine.features import lineage  # noqa: PLC0415 - start-up time of --help
    from engine.features.describe import describe  # noqa: PLC0415
    from engine.locations import Stores  # noqa: PLC0415

    program, spec = declared.logical.program, declared.spec
    described = {item["name"]: item for item in describe(program, spec)}
    if name not in described:
        near = get_close_matches(name, described, 3)
        raise NotFoundError(
            f"no feature is called {name!r}", hint=f"near: {', '.join(near)}" if near else "engine features list"
        )
    item, stores = described[name], Stores(declared.project, declared.settings)
    figures, notes = _figures(declared, stores, name, cost=cost)
    found = {
        **item,
        **figures,
        "declared": lineage.declarations(spec.features)[name][0],
        "sources": lineage.sources_behind(program, name),
        "reads": lineage.reads(program.by_name[name]),
        "upstream": lineage.upstream(program, name),
        "downstream": lineage.downstream(program, name),
        "used_by": lineage.mentions(spec, name),
        "tests": lineage.covering(spec, name),
        "models": _models(stores, name),
        "notes": notes,
    }
    return msgspec.convert(found, FeatureExplanation)


def _models(stores: Stores, name: str) -> tuple[str, ...]:
    """The registered versions whose program computes the feature, with their aliases."""
    found = []
    for model in stores.registry.names():
        aliases = stores.registry.aliases(model)
        for version in stores.registry.versions(model):
            if stores.artefacts.exists(version.digest):
                program = json.loads(stores.artefacts.read(version.digest, "program.json"))
                held = "".join(f"@{alias}" for alias, holder in aliases.items() if holder == version.version)
                found += [f"{model}:{version.version}{held}"] if name in program["order"] else []
    return tuple(found)


def _figures(declared: Declared, stores: Stores, name: str, *, cost: bool) -> tuple[dict[str, Any], list[str]]:
    """Profile and cost from the last finished run, as far as its artefacts are there; and why what is missing is."""
    record = _last_run(stores, declared.spec.name)
    outputs = {node.name: node.output for node in record.nodes if node.output is not None} if record else {}
    if record is None or not {"train", "features"} <= outputs.keys():
        return {}, [_NO_RUN]
    try:
        folders = {key: stores.artefacts.open(outputs[key].digest) for key in ("train", "features")}
        from engine.nodes.feature_facts import profile_of_feature  # noqa: PLC0415 - imports polars

        profile = profile_of_feature(record.run_id, folders["train"], folders["features"], name)
        notes = [] if profile else [f"run {record.run_id} has no column of this name: it was declared later"]
        if not cost:
            return {"profile": profile}, [*notes, "cost not measured: --no-cost"]
        return {"profile": profile, "cost": _cost(declared, stores, record, folders["features"], name)}, notes
    except EngineError as error:
        return {}, [f"run {record.run_id} left nothing to read: {error.message}"]


def _last_run(stores: Stores, pipeline: str) -> RunRecord | None:
    from engine.runs import RunFolder  # noqa: PLC0415 - start-up time
    from engine.stores.runs_index import RunFilter  # noqa: PLC0415

    for summary in stores.index.list_runs(RunFilter(pipeline=pipeline, status="succeeded", limit=5)):
        folder = RunFolder(stores.runs_root / summary.run_id)
        if folder.path.is_dir():
            return folder.read_record()
    return None


def _cost(declared: Declared, stores: Stores, record: RunRecord, rows: Path, name: str) -> Any:
    from engine.features.lineage import subprogram  # noqa: PLC0415 - start-up time
    from engine.nodes.feature_facts import measure_cost  # noqa: PLC0415 - imports polars
    from engine.nodes.frames import read_rows  # noqa: PLC0415

    program = subprogram(declared.logical.program, name)
    outputs = {node.name: node.output for node in record.nodes if node.output is not None}
    history = {}
    for source in program.feature_sources:
        output = outputs[f"ingest.{source}"]
        history[source] = read_rows(
            stores.snapshots_url, stores.artefacts.open(output.digest), output.notes, program.source_columns(source)
        )
    return measure_cost(program, rows, history)


def _lines(told: FeatureExplanation) -> list[str]:
    rows: list[tuple[str, Any]] = [
        ("name", told.name),
        ("what", told.words),
        (
            "kind",
            f"{told.kind}, {told.type}" + (f"; declared as {told.declared}" if told.declared != told.name else ""),
        ),
        ("source", ", ".join(told.sources)),
        ("columns", ", ".join(told.columns)),
        ("key", ", ".join(told.key)),
        ("window", told.window),
        ("owner", told.owner),
        ("doc", told.doc),
        ("tags", ", ".join(told.tags)),
        ("pii", {"tagged": "tagged as personal data", "derived": "derived from personal data"}.get(told.pii or "")),
        ("reads", ", ".join(told.reads)),
        ("upstream", ", ".join(told.upstream)),
        ("downstream", ", ".join(told.downstream)),
        ("used by", ", ".join(told.used_by)),
        ("models", ", ".join(told.models)),
        ("tests", ", ".join(told.tests)),
        ("nulls", _nulls(told)),
        ("values", _values(told)),
        ("cost", _cost_words(told)),
        *(("note", note) for note in told.notes),
    ]
    return [f"{label:<10} {text}" for label, text in rows if text]


def _nulls(told: FeatureExplanation) -> str | None:
    found = told.profile
    if found is None or found.null_rate is None:
        return None
    return f"{found.null_rate:.2%} of {found.rows:,} rows of run {found.run_id}"


def _values(told: FeatureExplanation) -> str | None:
    found = told.profile
    if found is None or not found.edges:
        return None
    limits = ["up to " + f"{found.edges[0]:g}", *(f"to {edge:g}" for edge in found.edges[1:]), "above"]
    return ", ".join(f"{limit} {count:,}" for limit, count in zip(limits, found.counts, strict=True))


def _cost_words(told: FeatureExplanation) -> str | None:
    found = told.cost
    if found is None:
        return None
    batch = f"{found.seconds * 1e3:.1f} ms for {found.rows:,} rows over {found.history_rows:,} of history"
    one = f"{found.one_row_seconds * 1e3:.2f} ms for one row alone, searching all of it"
    return f"{batch}, {found.peak_bytes / 2**20:.0f} MiB more at the peak; {one} (with all that it reads)"


def _draw(program: FeatureProgram, told: FeatureExplanation, target: str) -> None:
    from engine.features.lineage import reads  # noqa: PLC0415 - only for --graph
    from engine.features.steps import Lookup, Window  # noqa: PLC0415
    from engine.report.lineage import draw_lineage  # noqa: PLC0415

    path = Path(target)
    if path.suffix != ".svg":
        raise UsageError(f"--graph {target}: only .svg is drawn", hint="name a file that ends in .svg")
    steps = [program.by_name[name] for name in (*told.upstream, told.name, *told.downstream)]
    shown = {step.name for step in steps}
    needs = {
        step.name: [
            *([f"source {step.source}"] if isinstance(step, Lookup | Window) else []),
            *(item for item in reads(step) if item in shown or item not in program.by_name),
        ]
        for step in steps
    }
    try:
        path.write_text(draw_lineage(told, needs), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--graph {target}: {error.strerror}") from error
    say(f"drew {path}")
