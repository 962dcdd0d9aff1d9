"""Layers as loops over time (``Scan``) of plain operators, for cells without an ONNX operator, and for int8.

What does not depend on the state is computed before the loop, for all steps at once.
Letters: T time, B streams, E embedding, H hidden, G gates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from pipeline.compress.onnx_nodes import Nodes
from pipeline.model.cells import QRNN, MinGRU, MinLSTM, ResetBeforeGRU
from pipeline.model.mogrifier import MogrifierLSTM
from pipeline.model.slstm import NORM_EPSILON, SLSTM

if TYPE_CHECKING:
    from pipeline.compress.onnx_graph import Graph


@dataclass
class Step:
    """One step of a layer under construction: a body of ``nodes`` within ``graph``.

    ``inputs`` are what the loop receives at each step, (B, ·); ``begins`` and ``ends`` the state before and after it.
    """

    graph: Graph
    nodes: Nodes
    layer: Any
    index: int
    inputs: list[str]
    begins: list[str]
    ends: list[str]

    def times(self, rows: str, name: str, **how: Any) -> str:
        """Multiply (B, H) ``rows`` by the layer's matrix called ``name`` and add its bias, if it has one."""
        bias = getattr(self.layer, name.replace("weight", "bias"), None) if name.endswith("_l0") else None
        return self.graph.times(self.nodes, rows, f"{name}{self.index}", getattr(self.layer, name), bias, **how)


@dataclass(frozen=True)
class CellLoop:
    """A kind of layer: the parts of its state, what goes into the loop, one step of it, what comes out of the layer.

    ``before`` turns (T, B, E) into the loop's (T, B, ·) inputs; ``step`` fills in the ends; ``after`` turns the first
    part of the state after each step, and the loop's inputs, into the layer's output, (T, B, H).
    """

    name: str
    state: str
    before: Callable[[Graph, int, Any, str], list[str]]
    step: Callable[[Step], None]
    after: Callable[[Graph, Any, str, list[str]], str] = lambda graph, layer, states, inputs: states


def add_loop(graph: Graph, index: int, layer: Any, hidden: str, states: list[str]) -> str:
    """Pass (T, B, E) through one layer → (T, B, H); ``states`` name its state, which becomes ``graph.end_of`` it."""
    nodes, body, cell = graph.nodes, Nodes(graph.nodes), CELLS[type(layer)]
    if isinstance(layer, QRNN):
        hidden = _beside_the_input_before(graph, layer, hidden, states)
    inputs = cell.before(graph, index, layer, hidden)
    carried = states[:1] if isinstance(layer, QRNN) else states
    begins, ends = [f"{name}_before" for name in carried], [f"{name}_after" for name in carried]
    seen = [f"{name}_step" for name in inputs]
    cell.step(Step(graph, body, layer, index, seen, begins, ends))
    output = body.add("Identity", ends[0])
    shape = ["B", layer.hidden_size]
    loop = body.body(
        f"layer{index}",
        [
            *(nodes.floats(name, shape) for name in begins),
            *(nodes.floats(name, ["B", f"{name}_size"]) for name in seen),
        ],
        [*(nodes.floats(name, shape) for name in ends), nodes.floats(output, shape)],
    )
    axis = nodes.weight("first_axis", np.array([0]))
    results = [*(f"{name}_end" for name in carried), f"states{index}"]
    operands = [*(nodes.add("Squeeze", name, axis) for name in carried), *inputs]
    outputs = nodes.add_many("Scan", operands, results, body=loop, num_scan_inputs=len(inputs))
    for name, end in zip(carried, outputs[:-1], strict=True):
        nodes.add("Unsqueeze", end, axis, result=graph.end_of(name))
    return cell.after(graph, layer, outputs[-1], inputs)


def _beside_the_input_before(graph: Graph, layer: QRNN, hidden: str, states: list[str]) -> str:
    """(T, B, E) → (T, B, 2E), each input preceded by the one before it; the last one is passed to the next call."""
    if layer.width == 1:
        return hidden
    nodes = graph.nodes
    first, last, end = (nodes.weight(f"number_{n}", np.array([n])) for n in (0, -1, np.iinfo(np.int64).max))
    axis = nodes.weight("first_axis", np.array([0]))
    nodes.add("Slice", hidden, last, end, axis, result=graph.end_of(states[1]))
    before = nodes.add_many("Concat", [states[1], hidden], [f"{states[1]}_and_inputs"], axis=0)[0]
    before = nodes.add("Slice", before, first, last, axis)
    return nodes.add_many("Concat", [before, hidden], [f"{states[1]}_beside"], axis=2)[0]


def _gates_before(graph: Graph, index: int, layer: Any, hidden: str) -> list[str]:
    """Return the products of the inputs, for torch's layers."""
    return [graph.times(graph.nodes, hidden, f"weight_ih_l0{index}", layer.weight_ih_l0, layer.bias_ih_l0)]


def _lstm(step: Step) -> None:
    _lstm_from(step, step.nodes.add("Add", step.inputs[0], step.times(step.begins[0], "weight_hh_l0")))


def _lstm_from(step: Step, sums: str) -> None:
    """Complete a step from the pre-activations of i, f, k, o."""
    nodes = step.nodes
    gates = nodes.parted(sums, 4)
    enter, forget, output = (nodes.add("Sigmoid", gates[place]) for place in (0, 1, 3))
    kept = nodes.add("Mul", forget, step.begins[1])
    cell = nodes.add("Add", kept, nodes.add("Mul", enter, nodes.add("Tanh", gates[2])), result=step.ends[1])
    nodes.add("Mul", output, nodes.add("Tanh", cell), result=step.ends[0])


def _gru(step: Step) -> None:
    nodes = step.nodes
    of_inputs = nodes.parted(step.inputs[0], 3)
    of_hidden = nodes.parted(step.times(step.begins[0], "weight_hh_l0"), 3)
    reset, update = (nodes.add("Sigmoid", nodes.add("Add", of_inputs[g], of_hidden[g])) for g in (0, 1))
    candidate = nodes.add("Tanh", nodes.add("Add", of_inputs[2], nodes.add("Mul", reset, of_hidden[2])))
    nodes.between(candidate, step.begins[0], update, result=step.ends[0])


def _rnn(step: Step) -> None:
    nodes = step.nodes
    nodes.add("Tanh", nodes.add("Add", step.inputs[0], step.times(step.begins[0], "weight_hh_l0")), result=step.ends[0])


def _products(graph: Graph, index: int, layer: Any, hidden: str) -> list[str]:
    """Return each product of one of our cells, (T, B, H)."""
    products = graph.times(graph.nodes, hidden, f"weight{index}", layer.weight, layer.bias)
    return graph.nodes.parted(products, layer.num_products)


def _mingru_before(graph: Graph, index: int, layer: Any, hidden: str) -> list[str]:
    update, candidate = _products(graph, index, layer, hidden)
    return [candidate, graph.nodes.add("Sigmoid", graph.nodes.add("Neg", update))]


def _minlstm_before(graph: Graph, index: int, layer: Any, hidden: str) -> list[str]:
    nodes = graph.nodes
    forget, enter, candidate = _products(graph, index, layer, hidden)
    # log σ(f) − log σ(i), where log σ(x) = −softplus(−x)
    logs = [nodes.add("Softplus", nodes.add("Neg", gate)) for gate in (enter, forget)]
    return [candidate, nodes.add("Sigmoid", nodes.add("Sub", *logs))]


def _qrnn_before(graph: Graph, index: int, layer: Any, hidden: str) -> list[str]:
    nodes = graph.nodes
    candidate, forget, output = _products(graph, index, layer, hidden)
    return [nodes.add("Tanh", candidate), nodes.add("Sigmoid", forget), nodes.add("Sigmoid", output)]


def _qrnn_after(graph: Graph, layer: Any, states: str, inputs: list[str]) -> str:
    return graph.nodes.add("Mul", inputs[2], states)


def _average(step: Step) -> None:
    """f h + (1 − f) x, for cells whose gates depend only on the inputs."""
    step.nodes.between(step.inputs[0], step.begins[0], step.inputs[1], result=step.ends[0])


def _inputs_times_weight(graph: Graph, index: int, layer: Any, hidden: str) -> list[str]:
    """Return the products of the inputs, for our cells."""
    return [graph.times(graph.nodes, hidden, f"weight{index}", layer.weight, layer.bias)]


def _reset_before(step: Step) -> None:
    nodes, size = step.nodes, step.layer.hidden_size
    of_reset, of_update, of_new = nodes.parted(step.inputs[0], 3)
    before = step.begins[0]
    of_gates = nodes.parted(step.times(before, "weight_hh", part=slice(0, 2 * size)), 2)
    reset, update = (
        nodes.add("Sigmoid", nodes.add("Add", *pair)) for pair in zip((of_reset, of_update), of_gates, strict=True)
    )
    shown = step.times(nodes.add("Mul", reset, before), "weight_hh", part=slice(2 * size, 3 * size))
    nodes.between(nodes.add("Tanh", nodes.add("Add", of_new, shown)), before, update, result=step.ends[0])


def _mogrified(step: Step) -> None:
    nodes, layer = step.nodes, step.layer
    both = [step.inputs[0], step.begins[0]]
    names = iter(range(len(layer.mixers)))
    for index, factors in enumerate(layer.factors):
        sums, places = both[1 - index % 2], [next(names) for _ in factors]
        for place, factor in zip(reversed(places), reversed(factors), strict=True):
            sums = step.graph.times(nodes, sums, f"mixers{step.index}_{place}", factor)
        opened = nodes.add("Mul", nodes.add("Sigmoid", sums), nodes.weight("two", np.float32(2)))
        both[index % 2] = nodes.add("Mul", opened, both[index % 2])
    from_input = step.graph.times(nodes, both[0], f"weight{step.index}", layer.weight, layer.bias)
    _lstm_from(step, nodes.add("Add", from_input, step.times(both[1], "weight_hh")))


def _slstm(step: Step) -> None:
    """Like ``LoopedSLSTM``; a 0 in the state's l is read as −∞."""
    nodes, layer = step.nodes, step.layer
    rows = 4 * layer.hidden_size // layer.num_heads  # of the weight, per head
    heads = []
    parts = [nodes.parted(name, layer.num_heads) for name in (step.inputs[0], step.begins[0])]
    for head, (of_inputs, before) in enumerate(zip(*parts, strict=True)):
        products = step.times(before, "weight_hh", part=slice(head * rows, (head + 1) * rows))
        heads.append(nodes.parted(nodes.add("Add", of_inputs, products), 4))
    forget, enter, candidate, output = (_joined(nodes, list(gates)) for gates in zip(*heads, strict=True))
    zero = nodes.weight("zero", np.float32(0))
    begins_anew = nodes.add("Equal", step.begins[2], zero)
    before = nodes.add("Where", begins_anew, nodes.weight("nothing", np.float32(-np.inf)), step.begins[2])
    # log σ(x) = −softplus(−x)
    if layer.is_exponential:
        kept = nodes.add("Add", before, forget)
    else:
        kept = nodes.add("Sub", before, nodes.add("Softplus", nodes.add("Neg", forget)))
    less = nodes.add("Softplus", nodes.add("Sub", kept, enter))  # −log g
    log = nodes.add("Add", enter, less)
    smallest = nodes.weight("smallest", np.finfo(np.float32).tiny)
    nodes.add("Where", nodes.add("Equal", log, zero), smallest, log, result=step.ends[2])
    share = nodes.add("Exp", nodes.add("Neg", less))
    average = nodes.between(step.begins[1], nodes.add("Tanh", candidate), share, result=step.ends[1])
    nodes.add("Mul", nodes.add("Sigmoid", output), average, result=step.ends[0])


def _slstm_after(graph: Graph, layer: Any, states: str, inputs: list[str]) -> str:
    """Return the states with each head normalised, (T, B, H)."""
    nodes, size = graph.nodes, layer.hidden_size // layer.num_heads
    in_heads = nodes.weight(f"heads_of_{size}", np.array([0, 0, -1, size]))
    ones = nodes.weight(f"ones{size}", np.ones(size, dtype=np.float32))
    heads = nodes.add("Reshape", states, in_heads)
    normalized = nodes.add("LayerNormalization", heads, ones, axis=-1, epsilon=NORM_EPSILON)
    scale = nodes.weight(f"{states}_scale", layer.head_norm.detach().float().cpu().numpy())
    return nodes.add("Mul", nodes.add("Reshape", normalized, nodes.weight("in_one", np.array([0, 0, -1]))), scale)


def _joined(nodes: Nodes, parts: list[str]) -> str:
    """Return the (B, D) ``parts`` side by side."""
    return nodes.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


CELLS: dict[type[nn.Module], CellLoop] = {
    nn.LSTM: CellLoop("lstm", "hc", _gates_before, _lstm),
    nn.GRU: CellLoop("gru", "h", _gates_before, _gru),
    nn.RNN: CellLoop("rnn", "h", _gates_before, _rnn),
    ResetBeforeGRU: CellLoop("gru_reset_before", "h", _inputs_times_weight, _reset_before),
    MinGRU: CellLoop("mingru", "h", _mingru_before, _average),
    MinLSTM: CellLoop("minlstm", "h", _minlstm_before, _average),
    QRNN: CellLoop("qrnn", "cx", _qrnn_before, _average, _qrnn_after),
    MogrifierLSTM: CellLoop("mogrifier", "hc", lambda graph, index, layer, hidden: [hidden], _mogrified),
    SLSTM: CellLoop("slstm", "hal", _inputs_times_weight, _slstm, _slstm_after),
}
