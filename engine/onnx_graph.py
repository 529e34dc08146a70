"""ONNX graphs as they are written: constants and nodes, each with a name of its own, in doubles.

Enters: steps, one after another, from trainers that can be exported and from the calibration behind them. Leaves: the bytes
of a checked model that maps `x` (n, k) float64 to `prediction` float64. Needs the extra `onnx`, imported where it is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.errors import UsageError

OPSETS = {"": 21, "ai.onnx.ml": 5}
_FLOAT, _DOUBLE = 1, 11  # onnx.TensorProto's numbers of element types


class Graph:
    """Nodes and constants as they are added. `prefix` keeps names apart from those of a model that is added to."""

    def __init__(self, prefix: str = "step") -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._prefix, self._made = prefix, 0

    def constant(self, values: Any, kind: Any = np.float64) -> str:
        """Add a constant."""
        from onnx import numpy_helper  # noqa: PLC0415 - an extra, needed here only

        name = self.name()
        self.constants.append(numpy_helper.from_array(np.array(values, dtype=kind), name))
        return name

    def add(
        self,
        kind: str,
        inputs: list[str],
        count: int = 1,
        names: list[str] | None = None,
        **attributes: Any,
    ) -> list[str]:
        """Add a node; gives the names of its outputs."""
        from onnx import helper  # noqa: PLC0415 - an extra, needed here only

        outputs = names or [self.name() for _ in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def one(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node of one output."""
        return self.add(kind, inputs, **attributes)[0]

    def reshape(self, value: str, shape: list[int], name: str | None = None) -> str:
        """Give a value another shape."""
        return self.add("Reshape", [value, self.constant(shape, np.int64)], names=[name] if name else None)[0]

    def columns(self, value: str, places: list[int]) -> str:
        """Take columns of (n, k) by their places."""
        return self.one("Gather", [value, self.constant(places, np.int64)], axis=1)

    def bounded(self, value: str, most: float) -> str:
        """Bring numbers beyond `most` on either side to it; NaN stays NaN, which `Clip` does not promise."""
        high, low = self.constant(most), self.constant(-most)
        kept = self.one("Where", [self.one("Greater", [value, high]), high, value])
        return self.one("Where", [self.one("Less", [kept, low]), low, kept])

    def single_precision(self, value: str) -> str:
        """Round to 32 bits, and go on in 64: what libraries do that keep features in 32 bits."""
        return self.one("Cast", [self.one("Cast", [value], to=_FLOAT)], to=_DOUBLE)

    def sorted_rows(self, value: str, count: int, name: str) -> None:
        """Put the numbers of each row (n, count) in rising order."""
        levels = self.constant([count], np.int64)
        self.add("TopK", [value, levels], names=[name, self.name()], axis=1, largest=0, sorted=1)

    def name(self) -> str:
        """Make a name that is not used yet."""
        self._made += 1
        return f"{self._prefix}_{self._made}"

    def model_of_scores(self, score: str, task: str, width: int, outputs: int) -> bytes:
        """Close the graph of a boosted model: raw scores (n, outputs) become what its task predicts; raises as `model`."""
        if task == "multiclass":
            self.add("Softmax", [score], names=["prediction"], axis=1)
            return self.model(width, outputs)
        if task == "quantile":
            self.sorted_rows(score, outputs, "prediction")
            return self.model(width, outputs)
        self.reshape(self.one("Sigmoid", [score]) if task == "binary" else score, [-1], "prediction")
        return self.model(width, None)

    def model(self, width: int, outputs: int | None) -> bytes:
        """Close the graph: `x` of so many columns to `prediction`, (n,) or (n, outputs); raises `UsageError` for one that is wrong."""
        import onnx  # noqa: PLC0415 - an extra, needed here only
        from onnx import TensorProto, helper  # noqa: PLC0415

        shape = [None] if outputs is None else [None, outputs]
        graph = helper.make_graph(
            self.nodes, "model",
            [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, width])],
            [helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, shape)],
            self.constants,
        )  # fmt: skip
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="plumbline")
        try:
            onnx.checker.check_model(made, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            words = " ".join(str(error).split())[:200]
            raise UsageError(
                f"what was written as ONNX does not hold together: {words}", hint="export with --format mlflow"
            ) from error
        content: bytes = made.SerializeToString()
        return content
