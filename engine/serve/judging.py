"""What becomes of a rollout: its answers and labels are compared, and the next step, the promotion or the rollback written.

Enters: the prediction log, the labels, the rollout's state. Leaves: a ledger row, when something changes. Called by servers
every `judge_every`, and by `engine rollout judge`. The comparison is an always-valid confidence sequence, so looking often
costs nothing. Of one entity its first labelled answer counts: entities are what was assigned at random, and answers of one
entity are not independent.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from engine.clock import to_microseconds
from engine.durations import microseconds
from engine.evaluation.sequential import Doubles, Interval, mean_sequence, ratio_evidence, split_sequence
from engine.records import RolloutState
from engine.serve.feedback import current_labels, read_feedback
from engine.serve.prediction_log import read_predictions
from engine.spec.rollout import RolloutSpec
from engine.stores import rollouts
from engine.stores.registry import Registry
from engine.stores.rollouts import Decision

_ENOUGH = 100  # answers from which a share without scores is judged
_RATIO_LEVEL = 0.001
_CLIP = 1e-15
_COLUMNS = ["prediction_id", "served_at", "arm", "score", "entity"]


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: `difference` is challenger minus champion loss; counts are of the present step."""

    labels: int
    difference: Interval
    answers: int
    without_score: float
    ratio: float


def judge(registry: Registry, predictions: Path, feedback: Path, model: str, now: datetime) -> RolloutState | None:
    """Judge a running rollout and write what follows; gives the state after it, `None` when there is no rollout."""
    state = rollouts.current(registry, model)
    if state is None or state.status != "running":
        return state
    held = registry.alias(model, state.alias)
    if held is None or held.version != state.champion:
        holder = f"{model}:{held.version}" if held else "nothing"
        return rollouts.change(
            registry, state, Decision("aborted", "engine", f"{holder} holds @{state.alias} meanwhile")
        )
    found = look(registry, predictions, feedback, state)
    return decide(registry, state, found, now)


def decide(registry: Registry, state: RolloutState, found: Found, now: datetime) -> RolloutState:
    """Write what follows from what was found; nothing when nothing does. Raises `ConflictError` when somebody else did."""
    spec, evidence = rollouts.spec_of(state), _evidence(found)
    step, difference = spec.steps[state.step], found.difference
    if found.answers >= _ENOUGH and found.without_score > spec.max_without_score:
        words = f"breach: {found.without_score:.2%} of {found.answers} answers have no finite score"
        return rollouts.change(registry, state, Decision("rolled_back", "engine", words, evidence=evidence))
    if difference.low > spec.breach:
        words = f"breach: {spec.loss} is worse by {difference.mean:.5f} [{difference.low:.5f}, {difference.high:.5f}]"
        return rollouts.change(registry, state, Decision("rolled_back", "engine", words, evidence=evidence))
    if found.ratio > 1 / _RATIO_LEVEL:
        words = "sample ratio: entities are not split as declared, so no comparison can be trusted"
        return rollouts.change(registry, state, Decision("held", "engine", words, evidence=evidence))
    since = datetime.fromisoformat(state.since)
    if (now - since) // timedelta(microseconds=1) < microseconds(step.hold) or found.labels < step.min_labels:
        return state
    if state.step + 1 < len(spec.steps):
        words = f"step {state.step + 1} held: on to {spec.steps[state.step + 1].share:.2%}"
        return rollouts.change(
            registry, state, Decision("running", "engine", words, step=state.step + 1, evidence=evidence)
        )
    if difference.high < spec.margin or (spec.margin == 0 and difference.high < 0):
        words = f"{spec.loss} differs by {difference.mean:.5f} [{difference.low:.5f}, {difference.high:.5f}]"
        if spec.on_success == "promote":
            return rollouts.promote(
                registry, state, Decision("promoted", "engine", f"rollout: {words}", evidence=evidence)
            )
        return rollouts.change(
            registry, state, Decision("held", "engine", f"ready to be promoted: {words}", evidence=evidence)
        )
    return state


def _evidence(found: Found) -> dict[str, object]:
    content: dict[str, object] = asdict(found)
    difference = {name: value if np.isfinite(value) else None for name, value in asdict(found.difference).items()}
    return content | {"difference": difference}


def look(registry: Registry, predictions: Path, feedback: Path, state: RolloutState) -> Found:
    """Read and compare; writes nothing."""
    spec = rollouts.spec_of(state)
    steps = [
        (to_microseconds(datetime.fromisoformat(at)), share) for at, share in rollouts.steps_taken(registry, state)
    ]
    answers = _answers(registry, predictions, state, spec, steps)
    labels = read_feedback(feedback, state.model)
    labelled = _labelled(answers, labels, spec) if answers.height and labels.height else answers.head(0)
    began = steps[-1][0]
    ours = answers.filter((pl.col("arm") != "champion") & (pl.col("served") >= began))
    recent = (
        labelled.filter((pl.col("arm") != "champion") & (pl.col("served") >= began)) if labelled.height else labelled
    )
    lacking = float((~ours["score"].is_finite().fill_null(value=False)).mean() or 0.0) if ours.height else 0.0  # type: ignore[arg-type]
    both = any(step.share == 0 for step in spec.steps) and any(step.share > 0 for step in spec.steps)
    level = spec.level / 2 if both else spec.level
    difference = mean_sequence(_paired(labelled), level) if state.share == 0 else _split(labelled, level)
    return Found(recent.height, difference, ours.height, lacking, ratio_evidence(_counts(answers)))


def _answers(
    registry: Registry, predictions: Path, state: RolloutState, spec: RolloutSpec, steps: list[tuple[int, float]]
) -> pl.DataFrame:
    """Both models' answers since the rollout began: `served` in microseconds, and the `share` that held then."""
    versions = {item.version: item.digest for item in registry.versions(state.model)}
    frames = []
    for number in (state.champion, state.challenger):
        frame = read_predictions(predictions, state.model, versions[number])
        if frame.height:
            entity = pl.struct([pl.col("request").struct.field(name) for name in spec.fields])
            frames.append(frame.select("prediction_id", "served_at", "arm", "score", entity.alias("entity")))
    if not frames:
        return pl.DataFrame(schema=dict.fromkeys([*_COLUMNS, "served", "share"], pl.Null))
    table = pl.concat(frames).with_columns(pl.col("served_at").dt.epoch("us").alias("served"))
    table = table.filter(pl.col("served") >= steps[0][0]).unique(
        ["prediction_id", "arm"], keep="last", maintain_order=True
    )
    places = np.searchsorted(np.array([at for at, _ in steps]), table["served"].to_numpy(), side="right") - 1
    shares = np.array([share for _, share in steps])
    return table.with_columns(pl.Series("share", shares[places]), pl.Series("place", places))


def _labelled(answers: pl.DataFrame, feedback: pl.DataFrame, spec: RolloutSpec) -> pl.DataFrame:
    """Answers with a label and a finite score, in the order in which labels came, with their `loss`."""
    joined = answers.join(current_labels(feedback), on="prediction_id", how="inner").sort(
        "received_at", "prediction_id"
    )
    joined = joined.filter(pl.col("score").is_finite())
    return joined.with_columns(
        pl.Series("loss", losses(spec.loss, joined["label"].to_numpy(), joined["score"].to_numpy()))
    )


def losses(kind: str, label: Doubles, score: Doubles) -> Doubles:
    """The loss of each answer; lower is better."""
    match kind:
        case "log_loss":
            chance = np.clip(score, _CLIP, 1 - _CLIP)
            return -(label * np.log(chance) + (1 - label) * np.log1p(-chance))
        case "absolute_error":
            return np.abs(label - score)
        case _:
            return (label - score) ** 2


def _paired(labelled: pl.DataFrame) -> Doubles:
    """Differences of the two models on the same request, one an entity."""
    if not labelled.height:
        return np.empty(0)
    ours = labelled.filter(pl.col("arm") == "shadow").select("prediction_id", "entity", pl.col("loss").alias("ours"))
    theirs = labelled.filter(pl.col("arm") == "champion").select("prediction_id", pl.col("loss").alias("theirs"))
    both = ours.join(theirs, on="prediction_id", how="inner", maintain_order="left")
    both = both.unique("entity", keep="first", maintain_order=True)
    return (both["ours"] - both["theirs"]).to_numpy()


def _split(labelled: pl.DataFrame, level: float) -> Interval:
    """The difference between entities that were split, one answer an entity, each at the share of its time."""
    if not labelled.height:
        return mean_sequence(np.empty(0), level)
    rows = _first_of_each(labelled)
    return split_sequence(
        rows["loss"].to_numpy(), (rows["arm"] == "challenger").to_numpy(), rows["share"].to_numpy(), level
    )


def _first_of_each(rows: pl.DataFrame) -> pl.DataFrame:
    """The first row of each known entity that was given to one of two arms."""
    split = rows.filter((pl.col("share") > 0) & (pl.col("share") < 1) & pl.col("arm").is_in(["champion", "challenger"]))
    return split.filter(~_is_unknown(split)).unique("entity", keep="first", maintain_order=True)


def _is_unknown(rows: pl.DataFrame) -> pl.Series:
    parts = rows["entity"].struct.unnest()
    return (
        parts.select(pl.any_horizontal(pl.all().is_null())).to_series()
        if parts.width
        else pl.Series([], dtype=pl.Boolean)
    )


def _counts(answers: pl.DataFrame) -> list[tuple[int, int, float]]:
    """Distinct entities of each arm at each step; those who went to the challenger because an earlier step did count once."""
    if not answers.height:
        return []
    rows = _first_of_each(answers)
    grouped = rows.group_by("place", "share", maintain_order=True).agg(
        (pl.col("arm") == "challenger").sum().alias("ours"), (pl.col("arm") == "champion").sum().alias("theirs")
    )
    return [(row["ours"], row["theirs"], row["share"]) for row in grouped.iter_rows(named=True)]
