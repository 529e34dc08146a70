"""`engine runs diff`, `compare` and `reproduce` in words and tables, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.commands.tables import Cell, render_table
from engine.experiment_records import MetricChange, Reproduction, RunDiff, ValueChange


def tell_diff(diff: RunDiff) -> str:
    """Tell what differs, part by part; a part without a difference is left out."""
    left, right = diff.left, diff.right
    lines = [
        f"run {left.run_id} ({left.pipeline}, {left.status}) against run {right.run_id} ({right.pipeline}, {right.status})"
    ]
    lines += diff.notes
    if diff.verdict is not None:
        lines.append(f"verdict: {diff.verdict.left or 'none'} -> {diff.verdict.right or 'none'}")
    lines += _changes("config", diff.config)
    if diff.data:
        data: list[list[Cell]] = [
            [
                item.source,
                "same content" if item.same_content else "other content",
                _short(item.left_commit),
                _short(item.right_commit),
                item.left_rows,
                item.right_rows,
            ]
            for item in diff.data
        ]
        lines += ["", render_table(["data", "content", "left commit", "right commit", "left rows", "right rows"], data)]
    lines += _changes("feature", diff.features)
    lines += _changes("code", diff.code)
    lines += _changes("environment", diff.environment)
    if diff.metrics:
        rows = [_metric(item) for item in diff.metrics]
        headers = ["metric", "part", "left", "right", "right - left", "low", "high", "better"]
        lines += ["", render_table(headers, rows)]
        lines += [f"  {item.name}: {item.reason}" for item in diff.metrics if item.reason]
    lines += _changes("gate", diff.gates)
    if diff.nodes:
        words = {True: "same", False: "differs", None: "-"}
        nodes: list[list[Cell]] = [
            [
                item.name,
                words[item.same_output],
                item.left_state,
                item.right_state,
                item.left_seconds,
                item.right_seconds,
            ]
            for item in diff.nodes
        ]
        lines += ["", render_table(["node", "output", "left", "right", "left s", "right s"], nodes)]
    if diff.identical:
        lines.append("nothing that decides a result differs: every node left the same")
    return "\n".join(lines)


def tell_reproduction(found: Reproduction) -> str:
    """Tell whether a run came out the same, and if not, where it parted."""
    rows: list[list[Cell]] = [
        [
            match.name,
            "DIFFERS" if not match.same else f"same ({match.reason})" if match.reason else "same",
            _short(match.recorded),
            _short(match.again),
        ]
        for match in found.nodes
    ]
    lines = [render_table(["node", "output", "recorded", "again"], rows)]
    if found.identical:
        lines.append(f"run {found.run_id}: identical at every node ({found.threads} threads, {found.seconds:.1f} s)")
        return "\n".join(lines)
    lines.append(f"run {found.run_id}: differs first at `{found.first_difference}`")
    lines += [f"  {reason}" for reason in found.reasons]
    if found.environment:
        lines.append(f"  {len(found.environment)} packages have other versions than recorded:")
        lines += [
            f"    {item.name}: {item.left or 'absent'} -> {item.right or 'absent'}" for item in found.environment[:20]
        ]
    lines.append(f"what it left: {found.workspace}")
    return "\n".join(lines)


def _changes(title: str, changes: Sequence[ValueChange]) -> list[str]:
    if not changes:
        return []
    rows: list[list[Cell]] = [[change.name, _word(change.left), _word(change.right)] for change in changes]
    return ["", render_table([title, "left", "right"], rows)]


def _metric(item: MetricChange) -> list[Cell]:
    return [item.name, item.part, item.left, item.right, item.difference, item.low, item.high, item.better or ""]


def _word(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _short(value: str | None) -> str:
    return value[:12] if value else "-"
