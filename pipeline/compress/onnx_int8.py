"""A model in int8 as an ONNX file of plain operators.

Every row of a matrix that gives one output has a scale of its own, so a tied matrix is stored once and serves as
embedding and as output. What a matrix multiplies becomes 8 bits as well, with a scale for each row (text) and step:
sums of integers are exact, so what a text gives does not depend on what stands beside or after it, bit for bit.
(``DynamicQuantizeMatMul`` and ``DynamicQuantizeLSTM`` of ONNX Runtime take one scale for all rows and steps of a call.)
A layer is a loop over time whose input products are made before it, all at once.

Weights take 7 of the 8 bits: without VNNI a CPU adds two products of a pair in 16 bits, of which the largest is
2 · 255 · 63. Rows are stored from 1 to 255 around 128, for which CPUs have kernels; ONNX Runtime's for signed ones is
ten times slower. Letters: T time, B streams, E embedding, H hidden, V vocabulary, G gates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.compress.onnx_graph import Graph, array
from pipeline.compress.onnx_nodes import Nodes

WEIGHT_LEVELS, ROW_LEVELS, ROW_ZERO = 63, 127, 128
SMALLEST_SCALE = 1e-12  # of a row of zeros


class Int8Graph(Graph):
    """A model in int8, its layers loops of plain operators."""

    weights_are = "int8"

    def embedded(self) -> str:
        nodes = self.nodes
        levels = nodes.add("Gather", self.matrix("embedding", self.model.embedding.weight), "tokens")
        scales = nodes.add("Gather", "embedding_scale", "tokens")  # (T, B)
        scale = nodes.add("Unsqueeze", scales, nodes.weight("last_axis", np.array([2])))
        return nodes.add("Mul", self._as_floats(nodes, levels), scale)

    def matrix(self, name: str, weight: torch.Tensor) -> str:
        if name not in self.nodes.weights:
            self.nodes.weights[name], self.nodes.weights[f"{name}_scale"] = quantized(array(weight))
        return name

    def product(self, name: str, weight: torch.Tensor, bias: torch.Tensor | None, hidden: str, result: str) -> str:
        columns = self.nodes.add("Transpose", self.matrix(name, weight), perm=[1, 0])
        if bias is None:
            return self._products(self.nodes, hidden, columns, f"{name}_scale", result=result)
        products = self._products(self.nodes, hidden, columns, f"{name}_scale")
        return self.nodes.add("Add", products, self.nodes.weight(f"{result}_bias", array(bias)), result=result)

    def recurrent(self, index: int, layer: Any, hidden: str, states: list[str]) -> str:
        nodes, body = self.nodes, Nodes(self.nodes)
        sums = self._layer_products(nodes, index, layer, "ih", hidden)  # (T, B, G·H)
        # of the body, a step: what comes in and goes out
        begins, ends, step = [f"{name}_before" for name in states], [f"{name}_after" for name in states], f"sums{index}"
        recurrent = self._layer_products(body, index, layer, "hh", begins[0])
        STEPS[type(layer)](body, step, recurrent, begins, ends)
        output = body.add("Identity", ends[0])
        shape = ["B", layer.hidden_size]
        loop = body.body(
            f"layer{index}",
            [*(nodes.floats(name, shape) for name in begins), nodes.floats(step, ["B", "G"])],
            [*(nodes.floats(name, shape) for name in ends), nodes.floats(output, shape)],
        )
        axis = nodes.weight("first_axis", np.array([0]))
        results = [*(f"{name}_end" for name in states), f"hidden{index}"]
        operands = [*(nodes.add("Squeeze", name, axis) for name in states), sums]
        outputs = nodes.add_many("Scan", operands, results, body=loop, num_scan_inputs=1)
        for name, end in zip(states, outputs[:-1], strict=True):
            nodes.add("Unsqueeze", end, axis, result=f"next_{name}")
        return outputs[-1]

    def _layer_products(self, nodes: Nodes, index: int, layer: Any, name: str, rows: str) -> str:
        """(…, E or H) times a layer's matrix, plus its bias → (…, G·H)."""
        levels, scales = quantized(array(getattr(layer, f"weight_{name}_l0")))
        weight = nodes.weight(f"weight_{name}{index}", levels.T)
        products = self._products(nodes, rows, weight, nodes.weight(f"{weight}_scale", scales))
        return nodes.add("Add", products, nodes.weight(f"bias_{name}{index}", array(getattr(layer, f"bias_{name}_l0"))))

    def _products(self, nodes: Nodes, rows: str, columns: str, scale: str, result: str | None = None) -> str:
        """(…, E) rows, each scaled by itself, times int8 ``columns`` (E, V) with a ``scale`` of each → (…, V)."""
        largest = nodes.add("ReduceMax", nodes.add("Abs", rows), axes=[-1], keepdims=1)
        level = nodes.add("Mul", largest, nodes.weight("level", np.float32(1 / ROW_LEVELS)))
        row_scale = nodes.add("Max", level, nodes.weight("smallest_scale", np.float32(SMALLEST_SCALE)))
        levels = nodes.add("Round", nodes.add("Div", rows, row_scale))
        shifted = nodes.add("Add", levels, nodes.weight("row_zero", np.float32(ROW_ZERO)))
        row = nodes.add("Cast", shifted, to=nodes.onnx.TensorProto.UINT8)
        sums = nodes.add("MatMulInteger", row, columns, nodes.weight("row_zero_level", np.uint8(ROW_ZERO)))
        return nodes.add("Mul", nodes.add("Mul", self._as_floats(nodes, sums), row_scale), scale, result=result)

    def _as_floats(self, nodes: Nodes, values: str) -> str:
        return nodes.add("Cast", values, to=nodes.onnx.TensorProto.FLOAT)


def quantized(matrix: Any) -> tuple[Any, Any]:
    """(outputs, inputs) → int8 of the same shape, (outputs,) scales."""
    scale = np.maximum(np.abs(matrix).max(1) / WEIGHT_LEVELS, SMALLEST_SCALE).astype(np.float32)
    return np.round(matrix / scale[:, None]).astype(np.int8), scale


def _lstm(nodes: Nodes, sums: str, recurrent: str, begins: list[str], ends: list[str]) -> None:
    gates = _parted(nodes, nodes.add("Add", sums, recurrent), 4)
    enter, forget, output = (nodes.add("Sigmoid", gates[place]) for place in (0, 1, 3))
    kept = nodes.add("Mul", forget, begins[1])
    entered = nodes.add("Mul", enter, nodes.add("Tanh", gates[2]))
    cell = nodes.add("Add", kept, entered, result=ends[1])
    nodes.add("Mul", output, nodes.add("Tanh", cell), result=ends[0])


def _gru(nodes: Nodes, sums: str, recurrent: str, begins: list[str], ends: list[str]) -> None:
    of_inputs, of_hidden = _parted(nodes, sums, 3), _parted(nodes, recurrent, 3)
    reset, update = (nodes.add("Sigmoid", nodes.add("Add", of_inputs[g], of_hidden[g])) for g in (0, 1))
    candidate = nodes.add("Tanh", nodes.add("Add", of_inputs[2], nodes.add("Mul", reset, of_hidden[2])))
    # (1 − z) n + z h = n + z (h − n)
    change = nodes.add("Mul", update, nodes.add("Sub", begins[0], candidate))
    nodes.add("Add", candidate, change, result=ends[0])


def _rnn(nodes: Nodes, sums: str, recurrent: str, begins: list[str], ends: list[str]) -> None:
    nodes.add("Tanh", nodes.add("Add", sums, recurrent), result=ends[0])


def _parted(nodes: Nodes, gates: str, number: int) -> list[str]:
    """(B, G·H) → G parts of (B, H)."""
    return nodes.add_many("Split", [gates], [f"gate_{next(nodes.numbers)}" for _ in range(number)], axis=-1)


# a step of torch's layers: (B, G·H) products of the inputs and of the hidden vectors, gates in torch's order, and the
# names of the states before and after it, (B, H) each
STEPS: dict[type[nn.Module], Callable[[Nodes, str, str, list[str], list[str]], None]] = {
    nn.LSTM: _lstm,
    nn.GRU: _gru,
    nn.RNN: _rnn,
}
