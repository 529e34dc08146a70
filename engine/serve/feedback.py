"""Labels that arrive after their predictions: by prediction id, late, and revised. Append-only: the history is kept.

Enters: `POST /feedback`, `engine feedback`. Leaves: labels on disk before they are acknowledged, and frames that join them to
the logged answers. A revision is one more row; the one received last counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import polars as pl

from engine.contracts import Target
from engine.serve.mistakes import LONGEST_ID, Mistake, RefusedError, misfit, shorten
from engine.serve.prediction_log import MOMENT, read_answers
from engine.serve.schema import microseconds
from engine.serve.sealing import read_segments
from engine.serve.segments import SegmentLimits, SegmentWriter

_MANY = re.compile(rb'\s*(\[|\{\s*"labels"\s*:\s*\[)')
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ID)]


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One label; `at` is when it came to be known, the moment of receipt when absent. A null label takes one back.

    The label of a model of several classes is the class's name; it is kept as the class's place.
    """

    prediction_id: _Id
    label: bool | float | str | None
    at: datetime | None = None


class Labels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several labels."""

    labels: list[Label]


class FeedbackBlock(msgspec.Struct, frozen=True, array_like=True):
    """Labels that were received together; `known_at` and `received_at` in microseconds."""

    received_at: int
    ids: Sequence[str]
    labels: Sequence[float | None]
    known_at: Sequence[int]


_one, _list, _labels = msgspec.json.Decoder(Label), msgspec.json.Decoder(list[Label]), msgspec.json.Decoder(Labels)
_encoder = msgspec.msgpack.Encoder()
_read_block = msgspec.msgpack.Decoder(FeedbackBlock)


def read_labels(body: bytes, target: Target, now: int, most: int) -> FeedbackBlock:
    """Read one label, `{"labels": [...]}` or `[...]`; raises `RefusedError` with every mistake."""
    opening = _MANY.match(body)
    try:
        found = _decode(body, opening)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise _explain(body, str(error)) from None
    if not 0 < len(found) <= most:
        raise RefusedError(
            413 if found else 422, [Mistake("$.labels", f"1 to {most} labels are expected, {len(found)} found")]
        )
    wrong = [Mistake(_path(index, "label", many=opening is not None), words, shorten(item.label))
             for index, item in enumerate(found) if (words := _unfit(item.label, target))]  # fmt: skip
    if wrong:
        raise RefusedError(422, wrong)
    labels = [_number(item.label, target) for item in found]
    known = [now if item.at is None else microseconds(item.at) for item in found]
    return FeedbackBlock(now, [item.prediction_id for item in found], labels, known)


def _decode(body: bytes, opening: re.Match[bytes] | None) -> list[Label]:
    if opening is None:
        return [_one.decode(body)]
    return _list.decode(body) if opening[1] == b"[" else _labels.decode(body).labels


def _unfit(label: bool | float | str | None, target: Target) -> str | None:  # noqa: FBT001
    if label is None:
        return None
    if target.classes:
        return None if str(label) in target.classes else f"one of {', '.join(target.classes)} is expected"
    if isinstance(label, str):
        return "a number, true, false or null is expected"
    if target.task == "binary" and label not in {0, 1}:
        return "the model is binary: 0, 1, true, false or null is expected"
    return None if label - label == 0 else "a finite number is expected"


def _number(label: bool | float | str | None, target: Target) -> float | None:  # noqa: FBT001
    if label is None:
        return None
    return float(target.classes.index(str(label))) if target.classes else float(label)


def _path(index: int, name: str, *, many: bool) -> str:
    return f"$.labels[{index}].{name}" if many else f"$.{name}"


def _explain(body: bytes, words: str) -> RefusedError:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return RefusedError(400, [Mistake("$", f"not JSON: {error}")])
    many = isinstance(document, list) or (isinstance(document, dict) and isinstance(document.get("labels"), list))
    rows = document if isinstance(document, list) else document["labels"] if many else [document]
    mistakes = [
        item for index, row in enumerate(rows) for item in _mistakes(f"$.labels[{index}]" if many else "$", row)
    ]
    return RefusedError(422, mistakes[:50] or [Mistake("$", words)])


def _mistakes(path: str, row: Any) -> Iterator[Mistake]:
    if not isinstance(row, dict):
        yield Mistake(path, "an object with `prediction_id` and `label` is expected", shorten(row))
        return
    name = row.get("prediction_id")
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_ID:
        yield Mistake(f"{path}.prediction_id", f"a text of 1 to {LONGEST_ID} characters is expected", shorten(name))
    label = row.get("label", "")
    if "label" not in row or (not isinstance(label, bool | str) and misfit(label, "f64")):
        yield Mistake(
            f"{path}.label", "a number, a class's name, true, false or null is expected", shorten(row.get("label"))
        )
    if misfit(row.get("at"), "timestamp"):
        yield Mistake(f"{path}.at", "a moment such as 2013-11-03T12:00:00Z is expected", shorten(row["at"]))
    for key in row.keys() - {"prediction_id", "label", "at"}:
        yield Mistake(f"{path}.{key}", "unknown field", shorten(row[key]), "prediction_id, label, at")


class FeedbackStore:
    """The labels of one model. `append` is called by one thread at a time; `wait_synced` by any."""

    def __init__(self, root: Path, model: str, limits: SegmentLimits, full: Any) -> None:
        self.writer = SegmentWriter(root / model, _encoder.encode({"model": model, "version": 1}), limits, full)

    def append(self, block: FeedbackBlock) -> bool:
        """Write labels; false when they could not be."""
        return self.writer.append(_encoder.encode(block), len(block.ids))


def decode_feedback(payloads: Iterator[bytes]) -> pl.DataFrame:
    """Rows of a file: `prediction_id`, `label`, `known_at`, `received_at`."""
    next(payloads, None)
    blocks = [_read_block.decode(payload) for payload in payloads]
    received = [block.received_at for block in blocks for _ in block.ids]
    return pl.DataFrame(
        {
            "prediction_id": [name for block in blocks for name in block.ids],
            "label": [label for block in blocks for label in block.labels],
            "known_at": [moment for block in blocks for moment in block.known_at],
            "received_at": received,
        },
        schema={"prediction_id": pl.String, "label": pl.Float64, "known_at": pl.Int64, "received_at": pl.Int64},
    ).with_columns(pl.col("known_at", "received_at").cast(MOMENT))


def read_feedback(root: Path, model: str) -> pl.DataFrame:
    """Every label ever received for a model, oldest first; no columns when there is none."""
    found = read_segments(root / model, decode_feedback)
    return found.sort("received_at", maintain_order=True) if found.height else found


def current_labels(feedback: pl.DataFrame) -> pl.DataFrame:
    """One row a prediction id: the label received last, and how often it was revised; those taken back are left out."""
    counted = feedback.with_columns((pl.len().over("prediction_id") - 1).alias("revisions"))
    return counted.unique("prediction_id", keep="last", maintain_order=True).drop_nulls("label")


def labelled_answers(predictions: Path, feedback: Path, model: str) -> pl.DataFrame:
    """The logged answers that have a label, with it. Of a prediction id that was answered twice, the last answer counts."""
    answers, labels = read_answers(predictions, model), read_feedback(feedback, model)
    if not answers.height or not labels.height:
        return pl.DataFrame()
    last = answers.unique(["prediction_id", "arm"], keep="last", maintain_order=True)
    return last.join(current_labels(labels), on="prediction_id", how="inner", maintain_order="left")
