"""The heads of an exported model: (T, B, H) → (T, B, V) logits, or log-probabilities if a head has several softmaxes.

Letters: T time, B streams, H hidden, V vocabulary, K experts, E embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.model.head import AdaptiveSoftmax, MixtureOfSoftmaxes

if TYPE_CHECKING:
    from pipeline.compress.onnx_graph import Graph


def add_head(graph: Graph, head: Any, hidden: str, result: str) -> None:
    """Add ``head``, whose output is called ``result``."""
    if isinstance(head, AdaptiveSoftmax):
        _adaptive(graph, head, hidden, result)
    elif isinstance(head, MixtureOfSoftmaxes):
        _mixture(graph, head, hidden, result)
    else:
        graph.times(graph.nodes, hidden, "head", head.weight, head.bias, result=result)


def _adaptive(graph: Graph, head: AdaptiveSoftmax, hidden: str, result: str) -> None:
    """The first softmax has the frequent types and an entry per tail, to which the tail's own are added."""
    nodes = graph.nodes
    biases = head.bias.split(head.sizes)
    own = _types(graph, head, 0, hidden, biases[0])
    entries = graph.times(nodes, hidden, "tails", head.tails.weight, head.tails.bias)
    both = nodes.add_many("Concat", [own, entries], ["first_logits"], axis=-1)[0]
    log_p = nodes.add("LogSoftmax", both, axis=-1)
    axis = nodes.weight("types_axis", np.array([2]))

    def cut(begin: int, end: int) -> str:
        places = (nodes.weight(f"number_{number}", np.array([number])) for number in (begin, end))
        return nodes.add("Slice", log_p, *places, axis)

    first = head.sizes[0]
    parts = [cut(0, first)]
    for index in range(1, len(head.sizes)):
        narrowed = hidden
        if head.weight is None:
            projection: Any = head.projections[index - 1]
            narrowed = graph.times(nodes, hidden, f"projection{index}", projection.weight)
        within = nodes.add("LogSoftmax", _types(graph, head, index, narrowed, biases[index]), axis=-1)
        parts.append(nodes.add("Add", within, cut(first + index - 1, first + index)))
    nodes.add_many("Concat", parts, [result], axis=-1)


def _types(graph: Graph, head: AdaptiveSoftmax, index: int, hidden: str, bias: Any) -> str:
    """Return the logits of the types of softmax number ``index``."""
    if head.weight is None:
        return graph.times(graph.nodes, hidden, f"types{index}", head.weights[index], bias)
    types = slice(head.bounds[index], head.bounds[index + 1])
    products = graph.times(graph.nodes, hidden, "head", head.weight, part=types)
    return graph.nodes.add(
        "Add", products, graph.nodes.weight(f"types{index}_bias", bias.detach().float().cpu().numpy())
    )


def _mixture(graph: Graph, head: MixtureOfSoftmaxes, hidden: str, result: str) -> None:
    """log Σ over K of π_k softmax_k, with the largest summand taken out so that nothing underflows."""
    nodes = graph.nodes
    vectors = nodes.add("Tanh", graph.times(nodes, hidden, "experts", head.experts.weight, head.experts.bias))
    shape = nodes.weight("experts_shape", np.array([0, 0, head.num_experts, head.weight.shape[1]]))
    logits = graph.times(nodes, nodes.add("Reshape", vectors, shape), "head", head.weight, head.bias)  # (T, B, K, V)
    log_prior = nodes.add("LogSoftmax", graph.times(nodes, hidden, "prior", head.prior.weight), axis=-1)  # (T, B, K)
    axis = nodes.weight("after_experts", np.array([3]))
    joint = nodes.add("Add", nodes.add("LogSoftmax", logits, axis=-1), nodes.add("Unsqueeze", log_prior, axis))
    largest = nodes.add("ReduceMax", joint, axes=[2], keepdims=1)
    shares = nodes.add("Exp", nodes.add("Sub", joint, largest))
    experts = nodes.weight("experts_axis", np.array([2]))
    total = nodes.add("Log", nodes.add("ReduceSum", shares, experts, keepdims=0))
    nodes.add("Add", total, nodes.add("Squeeze", largest, experts), result=result)
