"""An ONNX graph under construction: its nodes, its weights, and a name for everything."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.errors import UserError

OPSET, IR_VERSION = 17, 8


class Nodes:
    """Nodes in the order in which they run. Methods take and return the names of values."""

    def __init__(self, outer: Nodes | None = None) -> None:
        """``outer``: the graph that runs these nodes as the body of a loop; they share its weights.

        Raises:
            UserError: ONNX is not installed.
        """
        try:
            import onnx
        except ImportError:
            raise UserError("ONNX is not installed: pip install 'recurray[export]'") from None
        self.onnx: Any = onnx
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {} if outer is None else outer.weights
        # a body sees the values of the graph around it, so no name may occur in both
        self.numbers: Any = itertools.count() if outer is None else outer.numbers
        self.made: dict[Any, str] = {}  # by ``once``

    def add(self, kind: str, *inputs: str, result: str | None = None, **attributes: Any) -> str:
        """Add a node with a single output, named ``result`` or by a number."""
        return self.add_many(kind, inputs, [result or f"{kind.lower()}_{next(self.numbers)}"], **attributes)[0]

    def once(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Like ``add``, but return the result of an earlier equal call if there was one."""
        key = (kind, inputs, repr(attributes))
        if key not in self.made:
            self.made[key] = self.add(kind, *inputs, **attributes)
        return self.made[key]

    def parted(self, values: str, number: int) -> list[str]:
        """Split (…, n·H) → n parts of (…, H)."""
        return self.add_many("Split", [values], [f"part_{next(self.numbers)}" for _ in range(number)], axis=-1)

    def between(self, one: str, other: str, share: str, *, result: str) -> str:
        """(1 − share) · one + share · other."""
        return self.add("Add", one, self.add("Mul", share, self.add("Sub", other, one)), result=result)

    def add_many(self, kind: str, inputs: Sequence[str], results: list[str], **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, results, **attributes))
        return results

    def weight(self, name: str, values: Any) -> str:
        """Store numbers in the file."""
        self.weights[name] = values
        return name

    def floats(self, name: str, shape: Sequence[str | int]) -> Any:
        """Return the declaration of an input or output of float32."""
        return self.onnx.helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, shape)

    def body(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """Return the nodes as the body that a loop runs at each step."""
        return self.onnx.helper.make_graph(self.nodes, name, inputs, outputs)

    def content(self, inputs: Sequence[Any], outputs: Sequence[Any], facts: Mapping[str, str]) -> bytes:
        """Return the nodes and weights as a file, with ``facts`` as its metadata."""
        onnx = self.onnx
        weights = [onnx.numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in self.weights.items()]
        graph = onnx.helper.make_graph(self.nodes, "recurray", inputs, outputs, weights)
        made = onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="recurray",
            doc_string="A recurrent language model: tokens and a state in, logits and the next state out.",
        )
        onnx.helper.set_model_props(made, dict(facts))
        content: bytes = made.SerializeToString()
        return content
