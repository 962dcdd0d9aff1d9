"""A model in int8 as an ONNX file of plain operators.

Each row of a matrix, which yields one output, has its own scale, so a tied matrix is stored once and serves as both
embedding and output. What a matrix multiplies is also quantised to 8 bits, with a scale for each row (text) and step:
sums of integers are exact, so a text's logits do not depend, bit for bit, on other texts or on what follows.
(``DynamicQuantizeMatMul`` and ``DynamicQuantizeLSTM`` of ONNX Runtime use one scale for all rows and steps of a call.)
A layer is a loop over time whose input products are computed before it, all at once.

Weights use 7 of the 8 bits: without VNNI a CPU adds products in pairs in 16 bits, and the largest such sum is
2 · 255 · 63. Rows are stored as 1 to 255 with 128 as zero, for which CPUs have kernels; ONNX Runtime's kernel for
signed rows is ten times slower. Letters: T time, B streams, E embedding, H hidden, V vocabulary, G gates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipeline.compress.onnx_cells import add_loop
from pipeline.compress.onnx_graph import Graph, array
from pipeline.compress.onnx_nodes import Nodes

WEIGHT_LEVELS, ROW_LEVELS, ROW_ZERO = 63, 127, 128
SMALLEST_SCALE = 1e-12  # of a row of zeros


class Int8Graph(Graph):
    """A model in int8; its layers are loops of plain operators."""

    weights_are = "int8"

    def embedded(self) -> str:
        nodes = self.nodes
        levels = nodes.add("Gather", self.matrix("embedding", self.model.embedding.weight), "tokens")
        scales = nodes.add("Gather", "embedding_scale", "tokens")  # (T, B)
        scale = nodes.add("Unsqueeze", scales, nodes.weight("last_axis", np.array([2])))
        return nodes.add("Mul", self._as_floats(nodes, levels), scale)

    def store(self, name: str, values: Any) -> str:
        levels, scales = quantized(values)
        self.nodes.weight(f"{name}_scale", scales)
        return self.nodes.weight(name, levels)

    def recurrent(self, index: int, layer: Any, hidden: str, states: list[str]) -> str:
        return add_loop(self, index, layer, hidden, states)

    def times(
        self,
        nodes: Nodes,
        rows: str,
        name: str,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        part: slice | None = None,
        result: str | None = None,
    ) -> str:
        """As in float32, but each row and each output of the matrix has its own scale."""
        matrix = self.matrix(name, weight)
        columns = self.nodes.once("Transpose", self.part(matrix, part, axis=0), perm=[1, 0])
        scale = self.part(f"{matrix}_scale", part, axis=0)
        largest = nodes.add("ReduceMax", nodes.add("Abs", rows), axes=[-1], keepdims=1)
        level = nodes.add("Mul", largest, nodes.weight("level", np.float32(1 / ROW_LEVELS)))
        row_scale = nodes.add("Max", level, nodes.weight("smallest_scale", np.float32(SMALLEST_SCALE)))
        levels = nodes.add("Round", nodes.add("Div", rows, row_scale))
        shifted = nodes.add("Add", levels, nodes.weight("row_zero", np.float32(ROW_ZERO)))
        row = nodes.add("Cast", shifted, to=nodes.onnx.TensorProto.UINT8)
        sums = nodes.add("MatMulInteger", row, columns, nodes.weight("row_zero_level", np.uint8(ROW_ZERO)))
        scaled = nodes.add("Mul", self._as_floats(nodes, sums), row_scale)
        products = nodes.add("Mul", scaled, scale, result=None if bias is not None else result)
        if bias is None:
            return products
        return nodes.add("Add", products, nodes.weight(f"{name}_bias", array(bias)), result=result)

    def _as_floats(self, nodes: Nodes, values: str) -> str:
        return nodes.add("Cast", values, to=nodes.onnx.TensorProto.FLOAT)


def quantized(matrix: Any) -> tuple[Any, Any]:
    """Quantise (outputs, inputs) → int8 of the same shape, and (outputs,) scales."""
    scale = np.maximum(np.abs(matrix).max(1) / WEIGHT_LEVELS, SMALLEST_SCALE).astype(np.float32)
    return np.round(matrix / scale[:, None]).astype(np.int8), scale
