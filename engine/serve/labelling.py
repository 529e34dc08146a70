"""Labels from files, and how the logged answers turned out. Called by `engine feedback`."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from engine.errors import DataError, UnavailableError
from engine.features.timestamps import parse_timestamps
from engine.records import ArmOutcome
from engine.serve.feedback import FeedbackBlock, FeedbackStore, current_labels, decode_feedback, read_feedback
from engine.serve.prediction_log import MOMENT, read_answers
from engine.serve.sealing import seal
from engine.serve.segments import SegmentLimits

_PORTION = 10_000


def add_labels(root: Path, model: str, frame: pl.DataFrame, now: int) -> int:
    """Add labels (`prediction_id`, `label`, perhaps `at`), durably; raises `DataError` with what does not fit."""
    lacking = [name for name in ("prediction_id", "label") if name not in frame.columns]
    if lacking:
        raise DataError(f"no column {', '.join(lacking)}; found: {', '.join(frame.columns)}")
    ids, label = frame["prediction_id"].cast(pl.String), _as_numbers(frame["label"])
    misfit = label.is_null() & frame["label"].is_not_null() & (frame["label"].cast(pl.String) != "")
    wrong = (ids.is_null() | (ids == "") | misfit).arg_true()
    if len(wrong):
        first = int(wrong[0]) + 1
        raise DataError(f"{len(wrong)} rows have no id, or a label that is no number; the first is row {first}")
    known = [now] * frame.height
    if "at" in frame.columns:
        moments = parse_timestamps(pl.col("at")) if frame.schema["at"] == pl.String else pl.col("at").cast(MOMENT)
        known = frame.select(moments.dt.epoch("us").fill_null(now)).to_series().to_list()
    store = FeedbackStore(root, model, SegmentLimits(), lambda path: seal(path, decode_feedback))
    try:
        for start in range(0, frame.height, _PORTION):
            part = slice(start, start + _PORTION)
            if not store.append(FeedbackBlock(now, ids[part].to_list(), label[part].to_list(), known[part])):
                raise UnavailableError(f"labels cannot be written: {store.writer.counts.failure}")
    finally:
        store.writer.close()
    return frame.height


def _as_numbers(values: pl.Series) -> pl.Series:
    """Labels as doubles; `true` and `false` are 1 and 0."""
    if values.dtype == pl.String:
        values = values.str.to_lowercase().replace({"true": "1", "false": "0", "": None})
    made = values.cast(pl.Float64, strict=False)
    return made.to_frame().select(pl.when(pl.first().is_finite()).then(pl.first())).to_series()


def summarise(predictions: Path, feedback: Path, model: str) -> list[ArmOutcome]:
    """Count answers and labels by version and arm, oldest version first."""
    answers = read_answers(predictions, model)
    if not answers.height:
        return []
    labels = read_feedback(feedback, model)
    nothing = pl.DataFrame(schema={"prediction_id": pl.String, "label": pl.Float64, "revisions": pl.UInt32})
    current = current_labels(labels) if labels.height else nothing
    last = answers.unique(["prediction_id", "arm"], keep="last", maintain_order=True)
    joined = last.join(current.select("prediction_id", "label", "revisions"), on="prediction_id", how="left")
    grouped = joined.group_by("version", "arm").agg(
        pl.len().alias("answers"),
        pl.col("label").count().alias("labelled"),
        (pl.col("revisions") > 0).sum().alias("revised"),
        pl.col("score").fill_nan(None).mean().alias("mean_score"),
        pl.col("label").mean().alias("mean_label"),
    )
    return [ArmOutcome(**row) for row in grouped.sort("version", "arm").to_dicts()]
