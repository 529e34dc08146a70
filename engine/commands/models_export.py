"""`engine models export`: a version as ONNX, or as an MLflow model directory; refused when its outputs are not ours."""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.commands.arguments import print_json, project_of, show
from engine.errors import UsageError
from engine.records import ModelVersion


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the action."""
    parser.add_argument("version", nargs="?", default="champion", help="a number or an alias (default: champion)")
    parser.add_argument("--format", choices=["onnx", "mlflow"], required=True, help="what to write")
    parser.add_argument("--to", metavar="PATH", required=True, help="a file (onnx) or a new folder (mlflow)")
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="GAP",
        help="how far outputs may be from ours (default: 1e-6; 1e-5 for models that add up in 32 bits, as XGBoost's)",
    )


def export_version(arguments: argparse.Namespace, version: ModelVersion, folder: Path) -> int:
    """Write the export, compare its outputs, and say where it is."""
    target = Path(arguments.to)
    if target.exists():
        raise UsageError(f"--to {target}: something is there already", hint="name a path that does not exist yet")
    if arguments.tolerance is not None and not arguments.tolerance >= 0:
        raise UsageError("--tolerance is at least 0")
    from engine.nodes.export import Export, export_model  # noqa: PLC0415 - imports polars, numpy and the trainer

    export = Export(version, folder, target, arguments.format, arguments.tolerance)
    answer = export_model(export, project_of(arguments).root)
    if arguments.json:
        print_json(answer)
    else:
        show(f"{answer.path}: {version.name}:{version.version} as {answer.format}")
        show(f"outputs compared on {answer.rows} rows: at most {answer.largest_difference:.3g} apart")
    return 0
