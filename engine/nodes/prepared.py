"""Rows as trainers see them, kept from one training to the next in the same process.

Enters: the artefacts of features and split, a program, the settings of a training. Leaves: encoded matrices and what a
model keeps of its rows. Trials of a sweep, and a baseline after the model, train on the same rows: reading and encoding
them once changes no bit, since everything that decides them is in the key. Called by `train`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from engine.contracts import Matrix, Target, Work
from engine.features.encoders import FittedEncoders, fit_encoders
from engine.features.program import FeatureProgram
from engine.keys import Json, digest
from engine.nodes.features import LABEL, ROW_ID
from engine.nodes.matrix import read_parts, row_hashes, to_matrix
from engine.nodes.profile import profile_of
from engine.nodes.target import class_weights, fit_target, group_ids, weigh

FITTED_PARTS = ("train", "validation", "calibration")
MOST_BYTES = 1 << 30  # larger matrices are not kept: the next node may need the memory
_STEPS = 1_000_000
_OF_TARGET = ("task", "classes", "quantiles", "group", "weight", "class_weight", "calibration")


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows to train, to stop and to calibrate by: matrices, target, encoders, profiles, sorted hashes of all row ids."""

    train: Matrix
    held: Matrix
    kept: Matrix
    target: Target
    weights: dict[str, Json]
    fitted: FittedEncoders
    profile: dict[str, Json]
    hashes: Any

    @property
    def rows(self) -> int:
        """How many rows train."""
        return len(self.train.y)

    @property
    def validation_rows(self) -> int:
        """How many rows stop the training."""
        return len(self.held.y)

    @property
    def calibration_rows(self) -> int:
        """How many rows calibrate."""
        return len(self.kept.y)


_KEPT: dict[str, Prepared] = {}


def prepare_rows(work: Work, program: FeatureProgram, columns: Sequence[str]) -> Prepared:
    """Read and encode, or give what was prepared of the very same rows for the node before."""
    settings: Any = work.settings
    key = digest(
        {
            "rows": work.inputs["rows"].digest,
            "split": work.inputs["split"].digest,
            "program": program.digest,
            "columns": list(columns),
            "target": {name: settings.get(name) for name in _OF_TARGET},
            "share": {name: settings.get(name) for name in ("share", "latest", "draw")},
        }
    )
    if key not in _KEPT:
        _KEPT.clear()
        prepared = _prepare(work, program, columns, key)
        if prepared.train.x.nbytes + prepared.held.x.nbytes > MOST_BYTES:
            return prepared
        _KEPT[key] = prepared
    return _KEPT[key]


def _prepare(work: Work, program: FeatureProgram, columns: Sequence[str], key: str) -> Prepared:
    settings: Any = work.settings
    beside = [settings[name] for name in ("group", "weight") if settings.get(name)]
    wanted = list(dict.fromkeys((ROW_ID, LABEL, *beside, *program.columns_behind(columns))))
    train, validation, kept = read_parts(work.inputs["rows"], work.inputs["split"], FITTED_PARTS, wanted)
    train = keep_share(train, settings)
    if settings.get("calibration") and not kept.height:
        validation, kept = keep_for_calibration(validation, settings["calibration"]["share"])
    return encode_rows(settings, program, columns, (train, validation, kept), key)


def encode_rows(
    settings: Mapping[str, Any],
    program: FeatureProgram,
    columns: Sequence[str],
    parts: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame],
    key: str,
) -> Prepared:
    """Encode the rows that train, stop and calibrate; encoders, classes and class weights are fitted here, on rows of theirs."""
    fitted = fit_encoders(program, parts[0])
    target = fit_target(settings, pl.concat([parts[0][LABEL], parts[1][LABEL]]))
    train, held, kept = (to_matrix(program, fitted, rows, columns, target) for rows in parts)
    by_class = class_weights(settings.get("class_weight"), train.y, target)
    train, held = (
        dataclasses.replace(
            matrix,
            key=f"{key}/{part}" if key else "",
            weight=weigh(rows, matrix.y, {**settings, "class_weights": by_class}, target),
            group=group_ids(rows, settings.get("group")),
        )
        for part, matrix, rows in (("train", train, parts[0]), ("validation", held, parts[1]))
    )
    profile: dict[str, Json] = {name: profile_of(train.x[:, index]) for index, name in enumerate(columns)}
    hashes = row_hashes(pl.concat([rows[ROW_ID] for rows in parts]))
    return Prepared(train, held, kept, target, by_class, fitted, profile, hashes)


def keep_for_calibration(validation: pl.DataFrame, share: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divide validation rows by a hash of their ids: those that stop the training, and about `share` that calibrate it."""
    chosen = validation[ROW_ID].cast(pl.String).hash(seed=1) % _STEPS < int(share * _STEPS)
    return validation.filter(~chosen), validation.filter(chosen)


def keep_share(train: pl.DataFrame, settings: Mapping[str, Any]) -> pl.DataFrame:
    """Keep `share` of the training rows: the latest, or those with the smallest hash under `draw`, whole queries together.

    A larger share of the same draw holds every row of a smaller one.
    """
    share = settings.get("share", 1.0)
    if share >= 1:
        return train
    if settings.get("latest"):  # rows are in order of time
        return train.tail(max(1, round(train.height * share)))
    by = train[settings.get("group") or ROW_ID].cast(pl.String)
    return train.filter(by.hash(seed=1000 + settings.get("draw", 0)) % _STEPS < int(share * _STEPS))
