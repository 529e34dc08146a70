"""A registered model for other tools: as ONNX, or as an MLflow model directory; kept only when its outputs are ours.

Enters: a verified package. Leaves: files at the target, and how far outputs differ on golden rows, on rows made of
their values, and on rows with every column missing in turn. Called by `engine models export`.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from engine import __version__
from engine.components import Catalogue, library_version, load_catalogue
from engine.errors import IntegrityError, UsageError
from engine.model_records import ExportAnswer
from engine.modelling import OnnxTrainer
from engine.nodes.calibrators import calibrator_from_json
from engine.nodes.frames import read_document
from engine.nodes.matrix import CALIBRATION, LoadedModel, load_model, model_files
from engine.nodes.mlflow_model import feature_columns, golden_frame, load_folder
from engine.nodes.onnx_calibration import calibrate_onnx
from engine.package_format import check_readable
from engine.records import ModelVersion

_MADE_ROWS = 1000
_USUAL = 1e-6  # how far outputs may be from ours, unless the trainer's own arithmetic has fewer bits


@dataclass(frozen=True, slots=True)
class Export:
    """What to write, where, and how far outputs may be off (relative to outputs beyond 1; None: as far as usual)."""

    version: ModelVersion
    folder: Path
    target: Path
    format: Literal["onnx", "mlflow"]
    tolerance: float | None


def export_model(export: Export, root: Path) -> ExportAnswer:
    """Write and compare; raises `UsageError` when the trainer or a library is missing, `IntegrityError` for other outputs."""
    check_readable(export.folder)
    plugins = tuple(read_document(export.folder / "provenance.json")["plugins"])
    catalogue = load_catalogue(root, plugins)
    model = load_model(export.folder, catalogue)
    trainer = _trainer(model, catalogue)
    usual = getattr(trainer, "onnx_tolerance", _USUAL) if export.format == "onnx" else _USUAL
    allowed = usual if export.tolerance is None else export.tolerance
    try:
        if export.format == "onnx":
            rows, gap = _write_onnx(export, model, trainer)
        else:
            rows, gap = _write_mlflow(export, model, catalogue)
        _refuse_other_outputs(export.format, gap, allowed)
    except BaseException:
        _remove(export.target)
        raise
    version = export.version
    return ExportAnswer(
        model=version.name, version=version.version, digest=version.digest, format=export.format,
        path=str(export.target), rows=rows, largest_difference=gap, tolerance=allowed,
    )  # fmt: skip


def _trainer(model: LoadedModel, catalogue: Catalogue) -> Any:
    component = catalogue.get("trainer", model.trained["component"])
    return component.build(msgspec.convert(model.trained["params"], component.params))


def _refuse_other_outputs(format_: str, gap: float, allowed: float) -> None:
    if not gap <= allowed:
        raise IntegrityError(
            f"the {format_} model's outputs are up to {gap:.3g} from ours, {allowed:g} are allowed",
            hint="nothing was kept; a larger --tolerance accepts it",
        )


def _remove(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def probing_rows(folder: Path) -> np.ndarray:
    """Give model inputs to compare on: golden rows, rows mixed from their values, and rows with a column missing."""
    golden = read_document(folder / "golden.json")
    inputs = np.array([[float.fromhex(value) for value in row] for row in golden["inputs"]], dtype=np.float64)
    draw = np.random.default_rng(0)
    picks = draw.integers(0, len(inputs), (_MADE_ROWS, inputs.shape[1]))
    mixed = np.take_along_axis(inputs, picks, axis=0)
    without = np.repeat(inputs[:1], inputs.shape[1], axis=0)
    np.fill_diagonal(without, np.nan)
    empty = np.full((1, inputs.shape[1]), np.nan)
    return np.vstack([inputs, mixed, without, empty])


def apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Give the largest difference, relative where outputs are beyond 1; infinite for another shape or a stray NaN."""
    if ours.shape != theirs.shape or not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return float("inf")
    gaps = np.abs(ours - theirs) / np.maximum(1.0, np.abs(ours))
    return float(np.nanmax(gaps)) if gaps.size else 0.0


def _write_onnx(export: Export, model: LoadedModel, trainer: Any) -> tuple[int, float]:
    if not isinstance(trainer, OnnxTrainer):
        raise UsageError(
            f"models of the trainer `{model.trained['component']}` cannot be written as ONNX",
            hint="export with --format mlflow",
        )
    runtime = _need("onnxruntime", "onnx")
    _need("onnx", "onnx")
    content = trainer.to_onnx(model_files(export.folder))
    if (export.folder / CALIBRATION).is_file():
        content = calibrate_onnx(content, calibrator_from_json(read_document(export.folder / CALIBRATION)))
    export.target.parent.mkdir(parents=True, exist_ok=True)
    export.target.write_bytes(content)
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    rows = probing_rows(export.folder)
    (theirs,) = session.run(["prediction"], {"x": rows})
    return len(rows), apart(model.predictor.predict(rows), np.asarray(theirs, dtype=np.float64))


def _write_mlflow(export: Export, model: LoadedModel, catalogue: Catalogue) -> tuple[int, float]:
    mlflow = _need("mlflow.pyfunc", "mlflow")
    types = _need("mlflow.types", "mlflow")
    signature = _need("mlflow.models", "mlflow").ModelSignature
    # Whole numbers with some missing are doubles in pandas and longs without: MLflow would refuse the one or the other.
    whole = _need("mlflow.types.schema", "mlflow").AnyType()
    kinds = {"str": "string", "f64": "double", "bool": "boolean", "timestamp": "datetime", "i64": whole}
    columns = feature_columns(model)
    inputs = types.Schema([types.ColSpec(kinds[type_], name, required=False) for name, type_ in columns.items()])
    version = export.version
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / "package"
        shutil.copytree(export.folder, staged, copy_function=shutil.copyfile)
        mlflow.save_model(
            path=str(export.target),
            loader_module="engine.nodes.mlflow_model",
            data_path=str(staged),
            signature=signature(inputs, types.Schema([types.ColSpec("double")])),
            pip_requirements=_requirements(model, catalogue),
            metadata={"plumbline": {"model": version.name, "version": version.version, "digest": version.digest}},
        )
    frame = golden_frame(load_folder(export.target / "data" / "package"), export.folder)
    theirs = np.asarray(mlflow.load_model(str(export.target)).predict(frame.to_pandas()), dtype=np.float64)
    return frame.height, apart(model.score(frame), theirs)


def _requirements(model: LoadedModel, catalogue: Catalogue) -> list[str]:
    """Name the engine and the libraries that the model's trainer needs, as installed here."""
    libraries = catalogue.get("trainer", model.trained["component"]).libraries
    versions = {name: library_version(name) for name in ("polars", "numpy", "pandas", *libraries)}
    return [f"plumbline=={__version__}", *(f"{name}=={found}" for name, found in versions.items() if found != "absent")]


def _need(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"this needs {module}: {error}", hint=f"pip install 'plumbline[{extra}]'") from error
