"""The page of `engine runs compare --html`: runs side by side, what differs, how good they are. No network, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.evaluation.names import higher_is_better
from engine.report.blocks import Column, Row, absent, code, figure, paragraph, section, table
from engine.report.document import Heading, render_document
from engine.report.markup import Markup, text
from engine.report.numbers import format_number, plural
from engine.report.parallel import parallel, read_axes

_MOST_AXES = 9


@dataclass(frozen=True, slots=True)
class Compared:
    """One run of the comparison."""

    run_id: str
    pipeline: str
    status: str
    verdict: str | None


def render_comparison(
    runs: Sequence[Compared], differing: Mapping[str, Sequence[Any]], values: Mapping[str, Sequence[Any]]
) -> str:
    """Render the page; `differing` and `values` map a config path or metric to one value a run."""
    names = " + ".join(dict.fromkeys(run.pipeline for run in runs))
    sections = (
        ("metrics", "Metrics", _metrics(runs, values)),
        ("parallel", "Parallel coordinates", _parallel(runs, differing, values)),
        ("config", "Config", _config(runs, differing)),
    )
    heading = Heading(
        f"{names}: {len(runs)} runs compared", f"Runs {', '.join(run.run_id for run in runs[:12])}", names
    )
    return render_document(heading, sections)


def _metrics(runs: Sequence[Compared], values: Mapping[str, Sequence[Any]]) -> Markup:
    columns = [
        Column("run", number=True),
        Column("status"),
        Column("verdict"),
        *(Column(name, number=True) for name in values),
    ]
    rows = [
        Row.of(
            text(run.run_id),
            text(run.status),
            text(run.verdict or "–"),
            *(text(_number(column[index])) for column in values.values()),
        )
        for index, run in enumerate(runs)
    ]
    return section("metrics", "How good they are", table("Metrics", columns, rows, stack=False))


def _parallel(
    runs: Sequence[Compared], differing: Mapping[str, Sequence[Any]], values: Mapping[str, Sequence[Any]]
) -> Markup:
    first = next((name for name, column in values.items() if any(value is not None for value in column)), None)
    axes = read_axes({**differing, **({first: values[first]} if first else {})})
    axes = [axis for axis in axes if len({str(value) for value in axis.values}) > 1][-_MOST_AXES:]
    if len(axes) < 2:
        return section("parallel", "Parallel coordinates", absent("They differ in too little to draw."))
    goodness = scale(values[first], higher_is_better(first)) if first else [None] * len(runs)
    names = [f"run {run.run_id}" for run in runs]
    drawn = parallel("Config and result of each run", axes, goodness, names)
    return section(
        "parallel", "Parallel coordinates", figure(drawn, "Greener is better; the thick line is the best run.")
    )


def _config(runs: Sequence[Compared], differing: Mapping[str, Sequence[Any]]) -> Markup:
    if not differing:
        return section("config", "Config", absent("Their configs are the same."))
    columns = [Column("path"), *(Column(f"run {run.run_id}") for run in runs)]
    rows = [Row.of(code(path), *(text(_word(value)) for value in column)) for path, column in differing.items()]
    note = paragraph(text(f"{plural(len(differing), 'path')} of the composed config differ."))
    return section("config", "What differs in config", note, table("Config", columns, rows, stack=False))


def scale(values: Sequence[Any], higher: bool) -> list[float | None]:  # noqa: FBT001 - what it is, its name says
    """Map values to 0 (worst) … 1 (best)."""
    known = [float(value) for value in values if isinstance(value, int | float)]
    if not known:
        return [None] * len(values)
    low, width = min(known), (max(known) - min(known)) or 1.0
    shares = [None if not isinstance(value, int | float) else (float(value) - low) / width for value in values]
    return shares if higher else [None if share is None else 1 - share for share in shares]


def _number(value: Any) -> str:
    return format_number(value, 5) if isinstance(value, int | float) else "–"


def _word(value: Any) -> str:
    return "–" if value is None else str(value)
