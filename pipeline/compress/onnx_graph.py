"""A model → an ONNX file with the state as input and output, float32 or int8, checked against torch.

int8: every row of a matrix that gives one output has a scale of its own, so a tied matrix is stored once and serves as
embedding and as output; LSTM and products are ONNX Runtime's dynamically quantized ones. Numbers take 7 of the 8 bits:
without VNNI a CPU adds two products of a pair in 16 bits. Letters: T time, B streams, E embedding,
H hidden, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.compress.onnx_model import OnnxModel
from pipeline.errors import UserError
from pipeline.generate.stepper import evaluating
from pipeline.model.head import Softmax
from pipeline.model.language_model import LanguageModel
from pipeline.model.recurrence import Recurrence

OPSET, IR_VERSION = 17, 8
LEVELS = 63  # to either side of zero
TOLERANCE = 1e-4  # of logits, between torch and the exported file
CHECKED_AT_ONCE = 64  # tokens
# a layer's operator, and torch's blocks of gates in the order of ONNX
CELLS: dict[type[nn.Module], tuple[str, list[int]]] = {
    nn.LSTM: ("LSTM", [0, 3, 1, 2]),
    nn.GRU: ("GRU", [1, 0, 2]),
    nn.RNN: ("RNN", [0]),
}


def export(model: LanguageModel, ids: Any, *, int8: bool = False) -> bytes:
    """The content of the ONNX file of ``model``; in float32 its logits on the tokens ``ids`` are those of torch.

    Raises:
        UserError: a model that cannot be exported, or an export that does not match.
    """
    content = _Graph(model, int8=int8).content()
    if not int8:
        check_matches(model, content, ids)
    return content


def check_matches(model: LanguageModel, content: bytes, ids: Any) -> None:
    """Raise ``UserError`` unless both give the same logits after each of ``ids``, to ``TOLERANCE``."""
    exported = OnnxModel(content)
    largest = 0.0
    with evaluating(model):
        state = model.initial_state(1)
        for window in torch.from_numpy(np.asarray(ids, dtype=np.int64)).unsqueeze(1).split(CHECKED_AT_ONCE):
            hidden, state = model(window, state)
            difference = model.head.logits(hidden).float() - torch.from_numpy(exported(window.numpy()))
            largest = max(largest, float(difference.abs().max()))
    if not largest <= TOLERANCE:
        raise UserError(
            f"the exported model's logits differ from the model's by {largest:.2g} on {len(ids):,} tokens, more than "
            f"{TOLERANCE:g}; it was not written"
        )


def check_exportable(model: LanguageModel) -> None:
    """Raise ``UserError`` unless ``model`` is one that can be exported."""
    recurrence = model.recurrence
    if type(model) is not LanguageModel or type(recurrence) is not Recurrence or type(model.head) is not Softmax:
        raise UserError("ONNX: only models with a full softmax can be exported")
    if not all(type(layer) in CELLS for layer in recurrence.layers):
        raise UserError("ONNX: model.cell must be lstm, gru or rnn for a model to be exported")
    if recurrence.norms is not None or recurrence.residual:
        raise UserError("ONNX: a model with model.layer_norm or model.residual cannot be exported")


class _Graph:
    """Nodes and weights of one export as they are put together."""

    def __init__(self, model: LanguageModel, *, int8: bool) -> None:
        try:
            import onnx
        except ImportError:
            raise UserError("ONNX is not installed: pip install 'recurray[export]'") from None
        check_exportable(model)
        self.onnx: Any = onnx
        self.model, self.int8 = model, int8
        self.head: Any = model.head
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}

    def content(self) -> bytes:
        onnx, model = self.onnx, self.model
        helper, floats = onnx.helper, onnx.TensorProto.FLOAT
        inputs = [helper.make_tensor_value_info("tokens", onnx.TensorProto.INT64, ["T", "B"])]
        outputs = [helper.make_tensor_value_info("logits", floats, ["T", "B", len(self.head.bias)])]
        hidden = self.embedded()
        for index, layer in enumerate(model.recurrence.layers):
            states = [f"{part}{index}" for part in ("hc" if isinstance(layer, nn.LSTM) else "h")]
            shape = [1, "B", layer.hidden_size]
            inputs += [helper.make_tensor_value_info(name, floats, shape) for name in states]
            outputs += [helper.make_tensor_value_info(f"next_{name}", floats, shape) for name in states]
            hidden = self.recurrent(index, layer, hidden, states)
        if model.projection is not None:
            hidden = self.product("projection", model.projection.weight, None, hidden, "projected")
        tied = self.head.weight is model.embedding.weight
        self.product("embedding" if tied else "head", self.head.weight, self.head.bias, hidden, "logits")
        weights = [onnx.numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in self.weights.items()]
        graph = helper.make_graph(self.nodes, "recurray", inputs, outputs, weights)
        domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        made = helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION, producer_name="recurray")
        content: bytes = made.SerializeToString()
        return content

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        domain = "com.microsoft" if kind.startswith("DynamicQuantize") else ""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def weight(self, name: str, values: Any) -> str:
        self.weights[name] = values
        return name

    def matrix(self, name: str, weight: torch.Tensor) -> None:
        """(outputs, inputs) as it is, or as int8 with a scale for each output."""
        values = _array(weight)
        if self.int8:
            values, self.weights[f"{name}_scale"] = _quantized(values)
        self.weights[name] = values

    def embedded(self) -> str:
        """Tokens (T, B) → (T, B, E)."""
        self.matrix("embedding", self.model.embedding.weight)
        rows = self.node("Gather", ["embedding", "tokens"], ["rows"])
        if not self.int8:
            return rows
        self.node("Cast", ["rows"], ["levels"], to=self.onnx.TensorProto.FLOAT)
        self.node("Gather", ["embedding_scale", "tokens"], ["row_scales"])
        self.node("Unsqueeze", ["row_scales", self.weight("last_axis", np.array([2]))], ["row_scale"])
        return self.node("Mul", ["levels", "row_scale"], ["embedded"])

    def product(self, name: str, weight: torch.Tensor, bias: torch.Tensor | None, hidden: str, result: str) -> str:
        """(T, B, H) times the transposed matrix called ``name``, plus ``bias``."""
        if name not in self.weights:
            self.matrix(name, weight)
        columns = self.node("Transpose", [name], [f"{name}_columns"], perm=[1, 0])
        biases = [] if bias is None else [self.weight(f"{result}_bias", _array(bias))]
        if self.int8:
            operands = [hidden, columns, f"{name}_scale", *(["", *biases] if biases else [])]
            return self.node("DynamicQuantizeMatMul", operands, [result])
        if not biases:
            return self.node("MatMul", [hidden, columns], [result])
        return self.node("Add", [self.node("MatMul", [hidden, columns], [f"{result}_product"]), *biases], [result])

    def recurrent(self, index: int, layer: Any, hidden: str, states: list[str]) -> str:
        """(T, B, E) through one layer → (T, B, H)."""
        kind, order = CELLS[type(layer)]

        def in_order(name: str) -> Any:
            blocks = np.split(_array(getattr(layer, name)), len(order))
            return np.concatenate([blocks[block] for block in order])

        matrices = [in_order("weight_ih_l0"), in_order("weight_hh_l0")]
        names = [f"input_weights{index}", f"recurrent_weights{index}"]
        biases = np.concatenate([in_order("bias_ih_l0"), in_order("bias_hh_l0")])[None]
        quantized: list[str] = []
        for name, matrix in zip(names, matrices, strict=True):
            if self.int8 and kind == "LSTM":  # ONNX Runtime has no quantized kernel of the others
                levels, scale = _quantized(matrix)
                self.weight(name, levels.T[None])
                quantized += [self.weight(f"{name}_scale", scale[None])]
                quantized += [self.weight(f"{name}_zero", np.zeros((1, len(scale)), dtype=np.int8))]
            else:
                self.weight(name, matrix[None])
        operands = [hidden, *names, self.weight(f"biases{index}", biases), "", *states]
        attributes: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
        if quantized:
            kind, operands = "DynamicQuantizeLSTM", [*operands, "", *quantized]
        ends = [f"next_{name}" for name in states]
        self.node(kind, operands, [f"outputs{index}", *ends], hidden_size=layer.hidden_size, **attributes)
        axis = self.weight("direction_axis", np.array([1]))
        return self.node("Squeeze", [f"outputs{index}", axis], [f"hidden{index}"])


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().float().cpu().numpy()


def _quantized(matrix: Any) -> tuple[Any, Any]:
    """(outputs, inputs) → int8 of the same shape, (outputs,) scales."""
    scale = np.maximum(np.abs(matrix).max(1) / LEVELS, 1e-12).astype(np.float32)
    return np.round(matrix / scale[:, None]).astype(np.int8), scale
