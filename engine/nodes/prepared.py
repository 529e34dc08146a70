"""Rows as trainers see them, kept from one training to the next in the same process.

Enters: the artefacts of features and split, a program, the model's columns. Leaves: encoded matrices and what a model
keeps of its rows. Trials of a sweep, and a baseline after the model, train on the same rows: reading and encoding them
once changes no bit, since everything that decides them is in the key. Called by `train`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from engine.contracts import Matrix, Work
from engine.features.encoders import FittedEncoders, fit_encoders
from engine.features.program import FeatureProgram
from engine.keys import Json, digest
from engine.nodes.features import LABEL, ROW_ID
from engine.nodes.matrix import read_parts, row_hashes, to_matrix
from engine.nodes.profile import profile_of

_MOST_BYTES = 1 << 30  # larger matrices are not kept: the next node may need the memory


@dataclass(frozen=True, slots=True)
class Prepared:
    """Training and validation rows: matrices, encoders, profile of each column, sorted hashes of all row ids."""

    train: Matrix
    held: Matrix
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


_KEPT: dict[str, Prepared] = {}


def prepare_rows(work: Work, program: FeatureProgram, columns: Sequence[str]) -> Prepared:
    """Read and encode, or give what was prepared of the very same rows for the node before."""
    key = digest(
        {
            "rows": work.inputs["rows"].digest,
            "split": work.inputs["split"].digest,
            "program": program.digest,
            "columns": list(columns),
        }
    )
    if key not in _KEPT:
        _KEPT.clear()
        prepared = _prepare(work, program, columns, key)
        if prepared.train.x.nbytes + prepared.held.x.nbytes > _MOST_BYTES:
            return prepared
        _KEPT[key] = prepared
    return _KEPT[key]


def _prepare(work: Work, program: FeatureProgram, columns: Sequence[str], key: str) -> Prepared:
    wanted = list(dict.fromkeys((ROW_ID, LABEL, *program.columns_behind(columns))))
    train, validation = read_parts(work.inputs["rows"], work.inputs["split"], ("train", "validation"), wanted)
    fitted = fit_encoders(program, train)
    matrix, held = (
        dataclasses.replace(to_matrix(program, fitted, rows, columns), key=f"{key}/{part}")
        for part, rows in (("train", train), ("validation", validation))
    )
    profile: dict[str, Json] = {name: profile_of(matrix.x[:, index]) for index, name in enumerate(columns)}
    hashes = row_hashes(pl.concat([train[ROW_ID], validation[ROW_ID]]))
    return Prepared(matrix, held, fitted, profile, hashes)
