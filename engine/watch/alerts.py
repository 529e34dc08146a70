"""From readings to alerts: one incident for each monitor and slice, ranked causes, a runbook with the evidence.

Enters: readings in order of chunk, and the alerts that are known. Leaves: alerts that opened, went on or were resolved. Pure;
the store keeps them. A chunk in alarm opens an alert or goes on with it; two quiet chunks after it resolve it. An acknowledged
alert stays so, and says nothing new until it is resolved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from engine.keys import digest
from engine.spec import PipelineSpec
from engine.watch_records import Alert, Finding, Reading

QUIET = 2
_CAUSES = 8
_DRIFTING = frozenset({"drift", "quality", "multivariate"})
_BY_THEMSELVES = frozenset({"parity", "staleness", "service"})  # columns that moved do not explain these
_STEPS = {
    "quality": "Look at the data first: a lost, retyped or emptied column is repaired at its source, not by training.",
    "drift": "Ask the owners of the columns above what changed. If the new values are right, retrain on data that has them.",
    "prediction": "The score moved. If features explain it, see drift; if not, compare the deployed model with the registry.",
    "multivariate": "Columns changed together. See the columns named above and their correlations in the report.",
    "calibration": "Probabilities are off. Recalibrate on recent labels, or retrain; thresholds on the score act differently now.",
    "performance": "Compare with the champion before: `engine models history`; roll back if a deployment started it.",
    "estimated": "An estimate only: wait for labels if they come soon, and see drift for what moved.",
    "concept": "The relation of features and label changed: retraining on recent labels helps, repairing data does not.",
    "parity": "Serving computes other features than training. Stop promotions; `engine features parity` says which rows.",
    "staleness": "Retrain, or raise the limit and say why.",
    "service": "See the server's metrics and logs; the model is not the cause as such.",
}


@dataclass(frozen=True, slots=True)
class Change:
    """An alert that is new or changed; `event` is what is told: opened, ongoing (told nobody), resolved."""

    alert: Alert
    event: str


def alert_id(pipeline: str, monitor: str, slice_: str, since: str) -> str:
    """Give an incident's id: the same incident has the same."""
    return digest({"pipeline": pipeline, "monitor": monitor, "slice": slice_, "since": since})[:12]


def update_alerts(
    spec: PipelineSpec, readings: Sequence[Reading], history: Sequence[Reading], known: Iterable[Alert], at: str
) -> list[Change]:
    """Follow the readings chunk by chunk; `history` are earlier ones, for telling how long it has been quiet."""
    current = {(item.monitor, item.slice): item for item in known if item.state != "resolved"}
    changes: dict[str, Change] = {}
    quiet: dict[tuple[str, str], int] = {}
    by_chunk: dict[str, list[Reading]] = {}
    for reading in readings:
        by_chunk.setdefault(reading.chunk, []).append(reading)
    for reading in sorted(readings, key=lambda item: (item.start, item.monitor, item.slice)):
        key = (reading.monitor, reading.slice)
        alert = current.get(key)
        if alert is not None and reading.chunk < alert.last_chunk:
            continue
        if reading.status in {"alarm", "broken"}:
            quiet[key] = 0
            change = _alarmed(spec, reading, by_chunk[reading.chunk], alert, at)
            current[key] = change.alert
            changes[change.alert.id] = _merged(changes.get(change.alert.id), change)
        elif alert is not None and reading.status == "ok" and reading.chunk > alert.last_chunk:
            quiet[key] = quiet.get(key, _quiet_before(history, reading, alert)) + 1
            if quiet[key] >= QUIET:
                resolved = _closed(alert, at, f"quiet for {QUIET} chunks")
                changes[alert.id] = _merged(changes.get(alert.id), Change(resolved, "resolved"))
                del current[key]
    return list(changes.values())


def _merged(earlier: Change | None, later: Change) -> Change:
    """What opened and was resolved in one go is told as resolved; what opened and went on, as opened."""
    if earlier is None or later.event == "resolved":
        return later
    return Change(later.alert, earlier.event)


def _quiet_before(history: Sequence[Reading], reading: Reading, alert: Alert) -> int:
    same = [item for item in history if (item.monitor, item.slice) == (reading.monitor, reading.slice)]
    return sum(1 for item in same if alert.last_chunk < item.chunk < reading.chunk and item.status == "ok")


def _closed(alert: Alert, at: str, reason: str) -> Alert:
    return msgspec.structs.replace(alert, state="resolved", changed_at=at, reason=reason, actor="engine")


def _alarmed(spec: PipelineSpec, reading: Reading, beside: Sequence[Reading], alert: Alert | None, at: str) -> Change:
    declared = spec.monitors[reading.monitor]
    since = alert.since if alert is not None else reading.chunk
    made = Alert(
        id=alert.id if alert is not None else alert_id(spec.name, reading.monitor, reading.slice, reading.chunk),
        pipeline=spec.name,
        monitor=reading.monitor,
        slice=reading.slice,
        state=alert.state if alert is not None else "open",
        severity=reading.severity,
        title=title_of(reading),
        since=since,
        last_chunk=reading.chunk,
        chunks=alert.chunks + (reading.chunk != alert.last_chunk) if alert is not None else 1,
        causes=rank_causes(reading, beside),
        owner=declared.owner or spec.owner,
        command=reproduce(spec, reading),
        opened_at=alert.opened_at if alert is not None else at,
        changed_at=at,
        actor=alert.actor if alert is not None else "",
        reason=alert.reason if alert is not None else "",
    )
    told = msgspec.structs.replace(made, runbook=write_runbook(spec, reading, made))
    return Change(told, "opened" if alert is None else "ongoing")


def title_of(reading: Reading) -> str:
    """Give an alert's headline."""
    where = f" [{reading.slice}]" if reading.slice else ""
    return f"{reading.pipeline}: {reading.monitor}{where} in {reading.chunk}: {reading.words or reading.status}"[:300]


def reproduce(spec: PipelineSpec, reading: Reading) -> str:
    """Give the command that gives the reading again."""
    return f"engine monitor pipeline={spec.name} --only {reading.monitor} --since {reading.start} --at {reading.at}"


def rank_causes(reading: Reading, beside: Sequence[Reading]) -> tuple[Finding, ...]:
    """Rank what went wrong in the chunk: broken data first, then what explains most of the score's movement."""
    own = [item for item in reading.findings if item.status in {"alarm", "broken"}]
    others = [
        item
        for other in beside
        if reading.kind not in _BY_THEMSELVES
        and other is not reading
        and other.kind in _DRIFTING
        and other.slice in {"", reading.slice}
        for item in other.findings
        if item.status in {"alarm", "broken"}
    ]
    columns = {item.name for item in own}
    told = [*own, *(item for item in others if item.name not in columns)]
    unique: dict[str, Finding] = {}
    for item in told:
        kept = unique.get(item.name)
        if kept is None or (kept.explains is None and item.explains is not None):
            unique[item.name] = item
    return tuple(sorted(unique.values(), key=_weight)[:_CAUSES])


def _weight(item: Finding) -> tuple[int, float, float]:
    broken = 0 if item.status == "broken" or item.component in {"schema", "nulls", "new_value", "not_finite"} else 1
    return (broken, -abs(item.explains or 0.0), item.adjusted if item.adjusted is not None else 0.0)


def write_runbook(spec: PipelineSpec, reading: Reading, alert: Alert) -> str:
    """Write what to do, with this incident's evidence, as Markdown."""
    lines = [
        f"# {'Model performance degraded' if reading.kind in _ABOUT_MODEL else 'Something changed'}: {alert.title}",
        "",
    ]
    lines += [f"- since {alert.since}, {alert.chunks} chunk(s), the last {alert.last_chunk} with {reading.rows} rows"]
    if reading.value is not None:
        span = (
            f" ({reading.low:.4g} to {reading.high:.4g})"
            if reading.low is not None and reading.high is not None
            else ""
        )
        usual = f", {reading.expected:.4g} is usual" if reading.expected is not None else ""
        lines.append(f"- measured {reading.value:.4g}{span}{usual}")
    if reading.coverage is not None:
        lines.append(f"- labels are known for {reading.coverage:.0%} of rows; the reading is restated as more come")
    lines += [f"- owner: {alert.owner or 'nobody named; set `owner:`'}", "", "## What changed", ""]
    lines += [_cause(rank, item) for rank, item in enumerate(alert.causes, 1)] or [
        "Nothing that the other monitors saw."
    ]
    declared = spec.monitors[reading.monitor]
    steps = [step for step in (declared.runbook, _STEPS.get(reading.kind, ""), spec.runbook) if step]
    lines += ["", "## What to do", "", *(f"{number}. {step}" for number, step in enumerate(steps, 1))]
    lines += ["", "## See it again", "", f"    {alert.command}", ""]
    return "\n".join(lines)


_ABOUT_MODEL = frozenset({"performance", "calibration", "concept", "estimated"})


def _cause(rank: int, item: Finding) -> str:
    share = f"; by itself it explains {item.explains:.0%} of the score's movement" if item.explains is not None else ""
    return f"{rank}. {item.words or item.name}{share}"
