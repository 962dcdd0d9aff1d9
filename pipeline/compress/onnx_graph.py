"""A model in float32 as an ONNX file, with the state as input and output.

Letters: T time, B streams, E embedding, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.compress.onnx_model import WEIGHTS
from pipeline.compress.onnx_nodes import Nodes
from pipeline.model.language_model import LanguageModel

# a layer's operator, and torch's blocks of gates in the order of ONNX
CELLS: dict[type[nn.Module], tuple[str, list[int]]] = {
    nn.LSTM: ("LSTM", [0, 3, 1, 2]),
    nn.GRU: ("GRU", [1, 0, 2]),
    nn.RNN: ("RNN", [0]),
}


class Graph:
    """A model in float32, its layers ONNX's own operators."""

    weights_are = "float32"

    def __init__(self, model: LanguageModel) -> None:
        """Raises ``UserError`` where ONNX is not installed."""
        self.model = model
        self.head: Any = model.head
        self.nodes = Nodes()

    def content(self, facts: Mapping[str, str]) -> bytes:
        """The file."""
        model, nodes = self.model, self.nodes
        helper = nodes.onnx.helper
        inputs = [helper.make_tensor_value_info("tokens", nodes.onnx.TensorProto.INT64, ["T", "B"])]
        outputs = [nodes.floats("logits", ["T", "B", len(self.head.bias)])]
        hidden = self.embedded()
        for index, layer in enumerate(model.recurrence.layers):
            states = [f"{part}{index}" for part in ("hc" if isinstance(layer, nn.LSTM) else "h")]
            shape: list[Any] = [1, "B", layer.hidden_size]
            inputs += [nodes.floats(name, shape) for name in states]
            outputs += [nodes.floats(f"next_{name}", shape) for name in states]
            hidden = self.recurrent(index, layer, hidden, states)
        if model.projection is not None:
            hidden = self.product("projection", model.projection.weight, None, hidden, "projected")
        tied = self.head.weight is model.embedding.weight
        self.product("embedding" if tied else "head", self.head.weight, self.head.bias, hidden, "logits")
        cell = type(model.recurrence.layers[0]).__name__.lower()
        own = {WEIGHTS: self.weights_are, "cell": cell, "layers": str(len(model.recurrence.layers))}
        return nodes.content(inputs, outputs, {**facts, **own, "vocabulary": str(len(self.head.bias))})

    def embedded(self) -> str:
        """Tokens (T, B) → (T, B, E)."""
        return self.nodes.add("Gather", self.matrix("embedding", self.model.embedding.weight), "tokens")

    def matrix(self, name: str, weight: torch.Tensor) -> str:
        """A matrix (outputs, inputs), stored once whoever asks for it."""
        return name if name in self.nodes.weights else self.nodes.weight(name, array(weight))

    def product(self, name: str, weight: torch.Tensor, bias: torch.Tensor | None, hidden: str, result: str) -> str:
        """(T, B, H) times the transposed matrix called ``name``, plus ``bias``."""
        columns = self.nodes.add("Transpose", self.matrix(name, weight), perm=[1, 0])
        if bias is None:
            return self.nodes.add("MatMul", hidden, columns, result=result)
        added = self.nodes.weight(f"{result}_bias", array(bias))
        return self.nodes.add("Add", self.nodes.add("MatMul", hidden, columns), added, result=result)

    def recurrent(self, index: int, layer: Any, hidden: str, states: list[str]) -> str:
        """(T, B, E) through one layer → (T, B, H); ``states`` name its state, which goes to ``next_`` of each."""
        nodes = self.nodes
        kind, order = CELLS[type(layer)]

        def in_order(name: str) -> Any:
            blocks = np.split(array(getattr(layer, name)), len(order))
            return np.concatenate([blocks[block] for block in order])

        weights = [
            nodes.weight(f"input_weights{index}", in_order("weight_ih_l0")[None]),
            nodes.weight(f"recurrent_weights{index}", in_order("weight_hh_l0")[None]),
            nodes.weight(f"biases{index}", np.concatenate([in_order("bias_ih_l0"), in_order("bias_hh_l0")])[None]),
        ]
        attributes: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
        results = [f"outputs{index}", *(f"next_{name}" for name in states)]
        operands = [hidden, *weights, "", *states]
        outputs = nodes.add_many(kind, operands, results, hidden_size=layer.hidden_size, **attributes)[0]
        return nodes.add("Squeeze", outputs, nodes.weight("direction_axis", np.array([1])))


def array(tensor: torch.Tensor) -> Any:
    """Numbers in float32 for the file."""
    return tensor.detach().float().cpu().numpy()
