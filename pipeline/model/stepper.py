"""A stepper runs a trained model one token at a time.

A fused kernel for whole sequences spends most of a single step on packing its weights. Here they are laid out once: by
columns, which a product with few rows reads twice as fast, or, for many prompts, for oneDNN where that is faster.
Letters: B prompts, E embedding, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.model.cells import Cell, LayOut, Product, Step
from pipeline.model.cpu.products import linear, product_with, takes_onednn
from pipeline.model.head import Softmax
from pipeline.model.language_model import LanguageModel
from pipeline.model.recurrence import Recurrence
from pipeline.model.state import State
from pipeline.model.transformer import Transformer


class Stepper:
    """Takes single steps with ``model``, which must not change meanwhile; call it within ``evaluating``."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.is_plain = is_plain(model) and model.device.type == "cpu"
        self.is_transformer = type(model.recurrence) is Transformer and model.device.type == "cpu"
        self.layouts: dict[bool, tuple[list[Step], Product]] = {}

    def __call__(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read (B,) tokens; returns the (B, V) logits of the next ones and the state after these.

        ``state`` must not be used again: its tensors may be changed in place.
        """
        model = self.model
        recurrence: Any = model.recurrence
        if self.is_transformer:
            hidden, state = recurrence.step(model.embedding(tokens), state)
            return model.head.logits(hidden), state
        if not self.is_plain:
            hidden, state = model(tokens.unsqueeze(0), state)  # (1, B, H)
            return model.head.logits(hidden[0]), state
        steps, head = self._laid_out(len(tokens))
        hidden, state = recurrence.step(model.embedding(tokens), state, steps)  # (B, H)
        if model.projection is not None:
            hidden = linear(hidden, model.projection.weight)
        return head(hidden), state

    def _laid_out(self, num_rows: int) -> tuple[list[Step], Product]:
        """Return the step of each layer, and the head, (B, H) → (B, V), laid out for about ``num_rows`` prompts."""
        head: Any = self.model.head
        is_packed = num_rows > 1 and takes_onednn(head.weight)
        if is_packed not in self.layouts:
            lay_out: LayOut = partial(product_with, num_rows=num_rows) if is_packed else _by_columns
            steps = [
                layer.stepper(lay_out) if isinstance(layer, Cell) else STEPS[type(layer)](*_products(layer, lay_out))
                for layer in self.model.recurrence.layers
            ]
            self.layouts[is_packed] = steps, lay_out(head.weight, head.bias)
        return self.layouts[is_packed]


def is_plain(model: LanguageModel) -> bool:
    """Return whether the short path can run ``model``: an embedding, torch's or our own cells, a full softmax."""
    return (
        type(model) is LanguageModel
        and type(model.recurrence) is Recurrence
        and all(type(layer) in STEPS or isinstance(layer, Cell) for layer in model.recurrence.layers)
        and type(model.head) is Softmax
    )


def _by_columns(weight: Tensor, bias: Tensor | None) -> Product:
    columns = weight.t().contiguous().t()
    return lambda rows: F.linear(rows, columns, bias)


def _products(layer: Any, lay_out: LayOut) -> Iterator[Product]:
    """Yield the products of inputs and hidden vectors, (B, E) and (B, H) → (B, gates · H); LSTM's candidate doubled."""
    for name in ("ih", "hh"):
        weight, bias = getattr(layer, f"weight_{name}_l0"), getattr(layer, f"bias_{name}_l0")
        if isinstance(layer, nn.LSTM):
            factors = bias.new_tensor([1, 1, 2, 1]).repeat_interleave(layer.hidden_size)
            weight, bias = weight * factors.unsqueeze(1), bias * factors
        yield lay_out(weight, bias)


def _lstm(from_inputs: Product, from_hidden: Product) -> Step:
    def step(inputs: Tensor, state: State) -> tuple[Tensor, State]:
        hidden, cell = state
        # tanh x = 2 σ(2x) − 1, so that one σ serves all four
        enter, forget, half, output = from_inputs(inputs).add_(from_hidden(hidden)).sigmoid_().chunk(4, 1)
        cell = torch.mul(forget, cell).addcmul_(enter, half, value=2).sub_(enter)
        hidden = torch.tanh(cell).mul_(output)
        return hidden, (hidden, cell)

    return step


def _gru(from_inputs: Product, from_hidden: Product) -> Step:
    def step(inputs: Tensor, state: State) -> tuple[Tensor, State]:
        (hidden,) = state
        size = hidden.shape[1]
        sums, recurrent = from_inputs(inputs), from_hidden(hidden)
        reset, update = sums[:, : 2 * size].add_(recurrent[:, : 2 * size]).sigmoid_().split(size, 1)
        candidate = sums[:, 2 * size :].addcmul_(reset, recurrent[:, 2 * size :]).tanh_()
        hidden = torch.lerp(candidate, hidden, update)
        return hidden, (hidden,)

    return step


def _rnn(from_inputs: Product, from_hidden: Product) -> Step:
    def step(inputs: Tensor, state: State) -> tuple[Tensor, State]:
        hidden = from_inputs(inputs).add_(from_hidden(state[0])).tanh_()
        return hidden, (hidden,)

    return step


# the steps of torch's layers, made from their products (B, E) and (B, H) → (B, gates · H), gates in torch's order
STEPS: dict[type[nn.Module], Callable[[Product, Product], Step]] = {nn.LSTM: _lstm, nn.GRU: _gru, nn.RNN: _rnn}
