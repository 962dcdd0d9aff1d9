"""A model as an ONNX file, with the state as input and output; here in float32.

``onnx_cells`` has the layers that are loops, ``onnx_heads`` the heads, some of which are more than a product.
Letters: T time, B streams, E embedding, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.compress.onnx_cells import CELLS, add_loop
from pipeline.compress.onnx_heads import add_head
from pipeline.compress.onnx_model import RESET_AFTER, WEIGHTS
from pipeline.compress.onnx_nodes import Nodes
from pipeline.errors import UserError
from pipeline.model.language_model import LanguageModel

NO_CACHE = "the ONNX files of this project hold recurrent layers, not a cache of the past"
# a layer's operator, and torch's blocks of gates in ONNX's order
OPERATORS: dict[type[nn.Module], tuple[str, list[int]]] = {
    nn.LSTM: ("LSTM", [0, 3, 1, 2]),
    nn.GRU: ("GRU", [1, 0, 2]),
    nn.RNN: ("RNN", [0]),
}


class Graph:
    """A model in float32; its layers are ONNX's own operators if ONNX has them."""

    weights_are = "float32"

    def __init__(self, model: LanguageModel) -> None:
        """Raises ``UserError`` if ONNX is not installed, or if the model attends to the past."""
        if model.attends:
            raise UserError(f"{NO_CACHE} ({model.attends})", argument="format")
        self.model = model
        self.nodes = Nodes()

    def content(self, facts: Mapping[str, str]) -> bytes:
        """Return the content of the file."""
        model, nodes = self.model, self.nodes
        recurrence: Any = model.recurrence
        head = model.head
        layers: Any = recurrence.layers
        num_types = model.embedding.num_embeddings
        inputs = [nodes.onnx.helper.make_tensor_value_info("tokens", nodes.onnx.TensorProto.INT64, ["T", "B"])]
        outputs = [nodes.floats("logits", ["T", "B", num_types])]
        hidden = self.embedded()
        for index, (layer, sizes) in enumerate(zip(layers, recurrence.state_sizes, strict=True)):
            # a part of size 0 is left out (a QRNN that reads only the current input has one)
            states = {
                f"{part}{index}": size for part, size in zip(CELLS[type(layer)].state, sizes, strict=True) if size
            }
            inputs += [nodes.floats(name, [1, "B", size]) for name, size in states.items()]
            outputs += [nodes.floats(f"next_{name}", [1, "B", size]) for name, size in states.items()]
            branch = self.normalized(hidden, index)
            output = self.recurrent(index, layer, branch, list(states))
            self.reset(states)
            is_joined = recurrence.residual and layer.input_size == layer.hidden_size
            hidden = nodes.add("Add", hidden, output) if is_joined else output
        hidden = self.normalized(hidden, len(layers))
        if model.projection is not None:
            hidden = self.times(nodes, hidden, "projection", model.projection.weight)
        add_head(self, head, hidden, "logits")
        own = {WEIGHTS: self.weights_are, "cell": CELLS[type(layers[0])].name, "layers": str(len(layers))}
        if model.reset_after is not None:
            own[RESET_AFTER] = str(model.reset_after)
        return nodes.content(inputs, outputs, {**facts, **own, "vocabulary": str(num_types)})

    def end_of(self, state: str) -> str:
        """The name of ``state`` after the last token, for the layer that computes it."""
        return f"next_{state}" if self.model.reset_after is None else f"{state}_at_end"

    def reset(self, states: Iterable[str]) -> None:
        """Return ``states`` as zeros to the streams whose last token ended a document, if training reset them there."""
        if self.model.reset_after is None:
            return
        nodes = self.nodes
        end = nodes.weight("reset_after", np.array(self.model.reset_after, dtype=np.int64))
        last, after, axis = (
            nodes.weight(f"number_{number}", np.array([number])) for number in (-1, np.iinfo(np.int64).max, 0)
        )
        has_ended = nodes.once("Equal", nodes.once("Slice", "tokens", last, after, axis), end)  # (1, B)
        has_ended = nodes.once("Unsqueeze", has_ended, nodes.weight("number_2", np.array([2])))
        zero = nodes.weight("zero_state", np.array(0, dtype=np.float32))
        for state in states:
            nodes.add("Where", has_ended, zero, self.end_of(state), result=f"next_{state}")

    def embedded(self) -> str:
        """Embed tokens: (T, B) → (T, B, E)."""
        return self.nodes.add("Gather", self.matrix("embedding", self.model.embedding.weight), "tokens")

    def matrix(self, name: str, weight: torch.Tensor) -> str:
        """Return the name of a matrix (outputs, inputs), stored once for all uses: a tied one is the embedding."""
        if weight is self.model.embedding.weight:
            name = "embedding"
        return name if name in self.nodes.weights else self.store(name, array(weight))

    def store(self, name: str, values: Any) -> str:
        """Store the ``values`` of a matrix, (outputs, inputs), in the file."""
        return self.nodes.weight(name, values)

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
        """Multiply (…, E) ``rows`` by a transposed matrix (V, E), or ``part`` of its outputs, plus ``bias`` → (…, V).

        The product goes into ``nodes``; what does not depend on the rows goes into the graph around them.
        """
        values = self.part(self.matrix(name, weight), part, axis=0)
        columns = self.nodes.once("Transpose", values, perm=[1, 0])
        products = self.multiply(nodes, rows, columns, result=None if bias is not None else result)
        if bias is None:
            return products
        return nodes.add("Add", products, self.nodes.weight(f"{name}_bias", array(bias)), result=result)

    def multiply(self, nodes: Nodes, rows: str, columns: str, *, result: str | None) -> str:
        """Multiply (…, E) ``rows`` by ``columns`` (E, V)."""
        return nodes.add("MatMul", rows, columns, result=result)

    def part(self, values: str, part: slice | None, *, axis: int) -> str:
        """Return ``part`` of ``values`` along ``axis``; None: all of them."""
        if part is None:
            return values
        begin, end, axes = (
            self.nodes.weight(f"number_{number}", np.array([number])) for number in (part.start, part.stop, axis)
        )
        return self.nodes.once("Slice", values, begin, end, axes)

    def normalized(self, hidden: str, index: int) -> str:
        """Normalise ``hidden`` for layer ``index``, or after the last layer, if the model has norms."""
        norms = self.model.recurrence.norms
        if norms is None:
            return hidden
        norm: Any = norms[index]
        scale = self.nodes.weight(f"norm{index}", array(norm.weight))
        bias = self.nodes.weight(f"norm{index}_bias", array(norm.bias))
        return self.nodes.add("LayerNormalization", hidden, scale, bias, axis=-1, epsilon=norm.eps)

    def recurrent(self, index: int, layer: Any, hidden: str, states: list[str]) -> str:
        """Pass (T, B, E) through one layer → (T, B, H); ``states`` name its state, which becomes ``end_of`` it."""
        if type(layer) not in OPERATORS:
            return add_loop(self, index, layer, hidden, states)
        nodes = self.nodes
        kind, order = OPERATORS[type(layer)]

        def in_order(name: str) -> Any:
            blocks = np.split(array(getattr(layer, name)), len(order))
            return np.concatenate([blocks[block] for block in order])

        weights = [
            nodes.weight(f"input_weights{index}", in_order("weight_ih_l0")[None]),
            nodes.weight(f"recurrent_weights{index}", in_order("weight_hh_l0")[None]),
            nodes.weight(f"biases{index}", np.concatenate([in_order("bias_ih_l0"), in_order("bias_hh_l0")])[None]),
        ]
        attributes: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
        results = [f"outputs{index}", *map(self.end_of, states)]
        operands = [hidden, *weights, "", *states]
        outputs = nodes.add_many(kind, operands, results, hidden_size=layer.hidden_size, **attributes)[0]
        return nodes.add("Squeeze", outputs, nodes.weight("direction_axis", np.array([1])))


def array(tensor: torch.Tensor) -> Any:
    """Return ``tensor`` as float32 numbers for the file."""
    return tensor.detach().float().cpu().numpy()
