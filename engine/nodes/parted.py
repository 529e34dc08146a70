"""Training rows that stay on disk, for trainers that read their own shares of them on other machines.

Enters: the artefacts of features and split, the settings of a training. Leaves: `RowsOnDisk`, which can be pickled, and what a
model keeps of its rows (encoders, profiles, hashes), found column by column, so that no more than one column of all rows is in
memory at a time. Called by `train`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from engine.contracts import Matrix, Target, Work
from engine.errors import DataError
from engine.features.encoders import FittedEncoders, fit_encoders
from engine.features.program import Encoded, FeatureProgram
from engine.keys import Json
from engine.nodes.features import LABEL, ROW_ID
from engine.nodes.frames import read_frame
from engine.nodes.matrix import row_hashes, to_matrix
from engine.nodes.prepared import FITTED_PARTS, Prepared
from engine.nodes.profile import profile_of
from engine.nodes.target import class_weights, encode_label, fit_target, group_ids, weigh


@dataclass(frozen=True)
class RowsOnDisk:
    """Encoded rows of a split, read share by share. All of it is plain data."""

    rows: str
    split: str
    program: Json
    encoders: Json
    columns: tuple[str, ...]
    target: Target
    weighing: Mapping[str, Any]

    def count(self, part: str) -> int:
        """Count the rows of a part."""
        return len(self._places(part))

    def labels(self, part: str) -> np.ndarray:
        """Read the labels of a part, (n,)."""
        return encode_label(self.column(LABEL, part), self.target)

    def read(self, part: str, index: int = 0, of: int = 1) -> Matrix:
        """Read, encode and weigh one share of a part."""
        places = self._share(part, index, of)
        program = FeatureProgram.from_json(self.program)
        group, weight = self.weighing.get("group"), self.weighing.get("weight")
        beside = [name for name in (group, weight) if name]
        wanted = list(dict.fromkeys((ROW_ID, LABEL, *beside, *program.columns_behind(self.columns))))
        rows = read_places(Path(self.rows), places, wanted)
        known = FittedEncoders.from_json(self.encoders).encoders
        fitted = FittedEncoders(encoders={name: item for name, item in known.items() if name in self.columns})
        made = to_matrix(program, fitted, rows, self.columns, self.target)
        return replace(made, weight=weigh(rows, made.y, self.weighing, self.target), group=group_ids(rows, group))

    def column(self, name: str, part: str) -> pl.Series:
        """Read one column of a part as it is."""
        return read_frame(Path(self.rows), [name])[name].gather(self._places(part))

    def _places(self, part: str) -> np.ndarray:
        return np.flatnonzero((read_frame(Path(self.split))["part"] == part).to_numpy())

    def _share(self, part: str, index: int, of: int) -> np.ndarray:
        places = self._places(part)
        group = self.weighing.get("group")
        if group and of > 1:
            ids = read_frame(Path(self.rows), [group])[group].gather(places).cast(pl.String)
            return np.asarray(places[(ids.hash(seed=5) % of == index).to_numpy()])
        return places[len(places) * index // of : len(places) * (index + 1) // of]


def read_places(path: Path, places: np.ndarray, columns: Sequence[str]) -> pl.DataFrame:
    """Read rows at rising places, without those before the first and after the last."""
    if not len(places):
        return read_frame(path, columns).head(0)
    first, length = int(places[0]), int(places[-1]) - int(places[0]) + 1
    found = pl.scan_parquet(path).select(columns).slice(first, length).collect()
    return found if length == len(places) else found[places - first]


def prepare_parted(work: Work, program: FeatureProgram, columns: Sequence[str]) -> tuple[RowsOnDisk, Prepared]:
    """Fit encoders, classes and profiles without reading all columns at once; the matrices that are left are empty."""
    settings: Any = work.settings
    rows, split = (
        str(work.inputs[name].path / f"{file}.parquet") for name, file in (("rows", "rows"), ("split", "split"))
    )
    plain = RowsOnDisk(rows, split, settings["program"], FittedEncoders().to_json(), tuple(columns), Target(""), {})
    if settings.get("calibration") and not plain.count("calibration"):
        hint = "let the split keep a `calibration` part, which is read as it is"
        raise DataError("a distributed training does not divide the validation rows", hint=hint)
    encoders = {step.name: _fit_one(program, step, plain) for step in program.steps if isinstance(step, Encoded)}
    fitted = FittedEncoders(encoders=encoders)
    labels = pl.concat([plain.column(LABEL, part) for part in FITTED_PARTS[:2]])
    target = fit_target(settings, labels)
    y = encode_label(plain.column(LABEL, "train"), target)
    by_class = class_weights(settings.get("class_weight"), y, target)
    weighing = {"group": settings.get("group"), "weight": settings.get("weight"), "class_weights": by_class}
    made = replace(plain, encoders=fitted.to_json(), target=target, weighing=weighing)
    profile: dict[str, Json] = {}
    for name in columns:
        profile[name] = profile_of(replace(made, columns=(name,), weighing={}).read("train").x[:, 0])
    hashes = row_hashes(pl.concat([plain.column(ROW_ID, part) for part in FITTED_PARTS]))
    empty = {part: _empty(columns, made.count(part)) for part in FITTED_PARTS}
    kept = made.read("calibration") if settings.get("calibration") else empty["calibration"]
    prepared = Prepared(empty["train"], empty["validation"], kept, target, by_class, fitted, profile, hashes)
    return made, prepared


def _fit_one(program: FeatureProgram, step: Encoded, rows: RowsOnDisk) -> Any:
    """Fit one encoder on its own column."""
    return fit_encoders(program, rows.column(step.column, "train").to_frame()).encoders[step.name]


def _empty(columns: Sequence[str], n: int) -> Matrix:
    """Give a matrix that says how many rows there are and holds none of them."""
    return Matrix(np.empty((0, len(columns))), np.empty(n), tuple(columns))
