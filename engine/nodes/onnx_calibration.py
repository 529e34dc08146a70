"""A calibration as part of an ONNX model: the same curves, in doubles, behind the model's own prediction.

Enters: a model that maps `x` to `prediction`, and the calibrator. Leaves: a model that does both. Called by `export`, which
compares the outputs. Isotonic curves become a search among their points and a straight line between two; Platt and beta become
logarithms and a sigmoid.
"""

from __future__ import annotations

import numpy as np

from engine.nodes.calibrators import EDGE, Calibrator, Curve
from engine.onnx_graph import Graph

_RAW = "uncalibrated"


def calibrate_onnx(content: bytes, calibrator: Calibrator) -> bytes:
    """Put the calibration behind the model."""
    import onnx  # noqa: PLC0415 - an extra, needed here only

    model = onnx.load_from_string(content)
    graph = model.graph
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == "prediction":
                node.output[place] = _RAW
    steps = _Curves("calibration")
    count = len(calibrator.curves)
    if count == 1:
        column = steps.reshape(_RAW, [-1, 1])
        steps.reshape(steps.curve(column, calibrator.curves[0]), [-1], "prediction")
    else:
        parts = steps.add("Split", [_RAW], count, axis=1, num_outputs=count)
        mapped = steps.one(
            "Concat", [steps.curve(part, curve) for part, curve in zip(parts, calibrator.curves, strict=True)], axis=1
        )
        total = steps.one("ReduceSum", [mapped, steps.constant([1], np.int64)], keepdims=1)
        steps.add("Div", [mapped, total], names=["prediction"])
    graph.node.extend(steps.nodes)
    graph.initializer.extend(steps.constants)
    onnx.checker.check_model(model)
    made: bytes = model.SerializeToString()
    return made


class _Curves(Graph):
    """A graph with the curves of a calibration."""

    def curve(self, column: str, curve: Curve) -> str:
        """Apply one curve to probabilities (n, 1)."""
        return self._isotonic(column, curve) if curve.method == "isotonic" else self._logistic(column, curve)

    def _logistic(self, column: str, curve: Curve) -> str:
        a, b, c = (self.constant(value) for value in curve.x)
        kept = self.one("Clip", [column, self.constant(EDGE), self.constant(1 - EDGE)])
        below = self.one("Mul", [a, self.one("Log", [kept])])
        above = self.one("Mul", [b, self.one("Log", [self.one("Sub", [self.constant(1.0), kept])])])
        return self.one("Sigmoid", [self.one("Add", [self.one("Sub", [below, above]), c])])

    def _isotonic(self, column: str, curve: Curve) -> str:
        """Find the last point at or below, and go on straight to the next; the ends hold."""
        if len(curve.x) == 1:
            return self.one("Add", [self.one("Mul", [column, self.constant(0.0)]), self.constant(curve.y[0])])
        x, y = (self.constant(list(values)) for values in (curve.x, curve.y))
        reached = self.one(
            "Cast", [self.one("GreaterOrEqual", [column, self.constant([list(curve.x)])])], to=7
        )  # int64
        count = self.one("ReduceSum", [reached, self.constant([1], np.int64)], keepdims=1)
        ones = self.constant(1, np.int64)
        left = self.one("Sub", [self.one("Clip", [count, ones, self.constant(len(curve.x) - 1, np.int64)]), ones])
        right = self.one("Add", [left, ones])
        from_x, to_x, from_y, to_y = (self.one("Gather", [t, i]) for t in (x, y) for i in (left, right))
        run = self.one("Div", [self.one("Sub", [column, from_x]), self.one("Sub", [to_x, from_x])])
        share = self.one("Clip", [run, self.constant(0.0), self.constant(1.0)])
        return self.one("Add", [from_y, self.one("Mul", [share, self.one("Sub", [to_y, from_y])])])
