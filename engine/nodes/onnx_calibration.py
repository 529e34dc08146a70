"""A calibration as part of an ONNX model: the same curves, in doubles, behind the model's own prediction.

Enters: a model that maps `x` to `prediction`, and the calibrator. Leaves: a model that does both. Called by `export`, which
compares the outputs. Isotonic curves become a search among their points and a straight line between two; Platt and beta become
logarithms and a sigmoid.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.nodes.calibrators import EDGE, Calibrator, Curve

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
    steps = _Steps()
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


class _Steps:
    """Nodes and constants as they are added, each with a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._made = 0

    def constant(self, values: Any, kind: Any = np.float64) -> str:
        """Add a constant."""
        from onnx import numpy_helper  # noqa: PLC0415 - an extra, needed here only

        name = self._name()
        self.constants.append(numpy_helper.from_array(np.array(values, dtype=kind), name))
        return name

    def add(
        self, kind: str, inputs: list[str], count: int = 1, names: list[str] | None = None, **attributes: Any
    ) -> list[str]:
        """Add a node; gives the names of its outputs."""
        from onnx import helper  # noqa: PLC0415 - an extra, needed here only

        outputs = names or [self._name() for _ in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def one(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node of one output."""
        return self.add(kind, inputs, **attributes)[0]

    def reshape(self, value: str, shape: list[int], name: str | None = None) -> str:
        """Give a value another shape."""
        return self.add("Reshape", [value, self.constant(shape, np.int64)], names=[name] if name else None)[0]

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

    def _name(self) -> str:
        self._made += 1
        return f"calibration_{self._made}"
