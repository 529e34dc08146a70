"""What was answered: id, times, request, the model's inputs bit by bit, model, program, state, score.

    <root>/<model>/<package>/...    segments (see `segments.py`), one folder a package, since a package's columns are fixed

Enters: what a batch answered. Leaves: Parquet, and frames for monitors. A logged row survives `kill -9` before its answer
is sent. Called by the application; read by monitors, `engine features parity` and `engine predict`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.features.lowered_functions import DTYPES
from engine.serve.package import Served
from engine.serve.schema import Rows
from engine.serve.scorer import Scored
from engine.serve.sealing import read_segments
from engine.serve.segments import SegmentLimits, SegmentWriter

LOG_VERSION = 1
KEPT_DIGITS = 16
MOMENT = DTYPES["timestamp"]


class LogHeader(msgspec.Struct, frozen=True):
    """What is the same for every row of a file."""

    log_version: int
    model: str
    version: int
    package: str
    program: str
    columns: tuple[str, ...]
    request: dict[str, str]
    outputs: tuple[str, ...] = ()


class LogBlock(msgspec.Struct, frozen=True, array_like=True):
    """One batch: `scores` and `x` are little-endian doubles, `request` has one list a field; `took` microseconds to score."""

    served_at: int
    state: str
    arm: str
    ids: Sequence[str]
    times: Sequence[int]
    scores: bytes
    x: bytes
    request: list[Sequence[Any]]
    outputs: bytes = b""
    took: int = 0


_encoder = msgspec.msgpack.Encoder()
_read_header = msgspec.msgpack.Decoder(LogHeader)
_read_block = msgspec.msgpack.Decoder(LogBlock)


@dataclass(frozen=True, slots=True)
class Answered:
    """Where and when a batch was answered: `at` and `took` in microseconds, the `state`'s watermark, the `arm` of a rollout."""

    at: int
    state: str
    arm: str = "champion"
    took: int = 0


class PredictionLog:
    """The log of one served package. `append` is called by one thread at a time."""

    def __init__(self, root: Path, served: Served, limits: SegmentLimits, full: Any) -> None:
        self._fields = tuple(served.program.spine.request)
        version = served.version
        header = LogHeader(
            LOG_VERSION, version.name, version.version, version.digest, served.program.digest, served.columns,
            dict(served.program.spine.request), served.model.target.outputs,
        )  # fmt: skip
        self.writer = SegmentWriter(
            package_folder(root, version.name, version.digest), _encoder.encode(header), limits, full
        )

    def append(self, rows: Rows, scored: Scored, answered: Answered) -> bool:
        """Log a batch; false when it was dropped, which is counted."""
        block = LogBlock(
            answered.at, answered.state, answered.arm, rows.ids, rows.times, scored.scores.tobytes(), scored.x.tobytes(),
            [rows.columns[name] for name in self._fields], b"" if scored.outputs is None else scored.outputs.tobytes(),
            answered.took,
        )  # fmt: skip
        return self.writer.append(_encoder.encode(block), rows.count)


def package_folder(root: Path, model: str, package: str) -> Path:
    """Where a package's rows are."""
    return root / model / package[:KEPT_DIGITS]


def decode_predictions(payloads: Iterator[bytes]) -> pl.DataFrame:
    """Rows of a write-ahead file: one column a fact, and the structs `request` and `features`."""
    first = next(payloads, None)
    if first is None:
        return pl.DataFrame()
    header = _read_header.decode(first)
    blocks = [_read_block.decode(payload) for payload in payloads]
    if not blocks:
        return pl.DataFrame()
    counts = [len(block.ids) for block in blocks]

    def each(values: Sequence[Any]) -> Any:
        return np.repeat(np.array(values), counts)

    x = np.frombuffer(b"".join(block.x for block in blocks), dtype="<f8").reshape(sum(counts), len(header.columns))
    frame = pl.DataFrame({
        "prediction_id": [name for block in blocks for name in block.ids],
        "served_at": pl.Series(each([block.served_at for block in blocks]), dtype=pl.Int64).cast(MOMENT),
        "event_time": pl.Series([time for block in blocks for time in block.times], dtype=pl.Int64).cast(MOMENT),
        "score": np.frombuffer(b"".join(block.scores for block in blocks), dtype="<f8"),
        "arm": pl.Series(each([block.arm for block in blocks]), dtype=pl.String),
        "state": pl.Series(each([block.state for block in blocks]), dtype=pl.String),
        "took": pl.Series(each([block.took for block in blocks]), dtype=pl.Int64),
    })  # fmt: skip
    if header.outputs:
        made = np.frombuffer(b"".join(block.outputs for block in blocks), dtype="<f8")
        outputs = pl.DataFrame(made.reshape(-1, len(header.outputs)), schema=list(header.outputs))
        frame = frame.with_columns(outputs.to_struct("outputs"))
    return frame.with_columns(
        pl.lit(header.model).alias("model"),
        pl.lit(header.version, dtype=pl.Int64).alias("version"),
        pl.lit(header.package).alias("package"),
        pl.lit(header.program).alias("program"),
        _request(header.request, blocks).to_struct("request"),
        pl.DataFrame(x, schema=list(header.columns)).to_struct("features"),
    )


def _request(fields: Mapping[str, str], blocks: Sequence[LogBlock]) -> pl.DataFrame:
    columns = {}
    for index, (name, type_) in enumerate(fields.items()):
        values = [value for block in blocks for value in block.request[index]]
        stored = pl.Int64 if type_ == "timestamp" else DTYPES[type_]
        columns[name] = pl.Series(name, values, dtype=stored).cast(DTYPES[type_])
    return pl.DataFrame(columns)


def read_predictions(root: Path, model: str, package: str) -> pl.DataFrame:
    """Every logged row of one package, oldest first, whatever is open or sealed; no columns when there is none."""
    return read_segments(package_folder(root, model, package), decode_predictions)


def read_answers(root: Path, model: str) -> pl.DataFrame:
    """Every logged row of a model, of all its packages, without `request` and `features`."""
    folders = sorted((root / model).iterdir()) if (root / model).is_dir() else []
    frames = [frame.drop("request", "features", "outputs", strict=False) for folder in folders if folder.is_dir()
              and (frame := read_segments(folder, decode_predictions)).height]  # fmt: skip
    return pl.concat(frames, how="diagonal").sort("served_at", maintain_order=True) if frames else pl.DataFrame()
