"""A trained model one token at a time: (B,) tokens and a state in, (B, V) logits and the next state out.

A fused kernel for whole sequences spends most of a single step on packing its weights. Here each layer is one cell
call, and the weights are laid out once by columns, which a product with few rows reads twice as fast.
Letters: B prompts, E embedding, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.model.cells import Cell
from pipeline.model.head import Softmax
from pipeline.model.language_model import LanguageModel
from pipeline.model.recurrence import Recurrence
from pipeline.model.state import State

Step = Callable[[Tensor, State], tuple[Tensor, State]]

CELLS: dict[type[nn.Module], Callable[..., Any]] = {
    nn.LSTM: torch.lstm_cell,
    nn.GRU: torch.gru_cell,
    nn.RNN: torch.rnn_tanh_cell,
}


@contextmanager
def evaluating(model: LanguageModel) -> Iterator[None]:
    """Without dropout and gradients; the model's mode is given back."""
    was_training = model.training
    if was_training:  # to set a mode takes a third of the time of a token
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if was_training:
            model.train()


class Stepper:
    """``model``, which must not change meanwhile, ready for single steps; call it within ``evaluating``."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.steps: list[Step] | None = None
        if is_plain(model) and model.device.type == "cpu":
            self.steps = [_step_of(layer) for layer in model.recurrence.layers]
            head: Any = model.head
            self.head = (head.weight.t().contiguous().t(), head.bias)  # (V, H) by columns, (V,)

    def __call__(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B,) tokens, state → (B, V) logits of the next tokens, state after these."""
        model = self.model
        if self.steps is None:
            hidden, state = model(tokens.unsqueeze(0), state)  # (1, B, H)
            return model.head.logits(hidden[0]), state
        hidden, state = model.recurrence.step(model.embedding(tokens), state, self.steps)  # (B, H)
        if model.projection is not None:
            hidden = model.projection(hidden)
        return F.linear(hidden, *self.head), state


def is_plain(model: LanguageModel) -> bool:
    """Whether ``model`` is what the short way computes: an embedding, torch's or our own cells, a full softmax."""
    return (
        type(model) is LanguageModel
        and type(model.recurrence) is Recurrence
        and all(type(layer) in CELLS or isinstance(layer, Cell) for layer in model.recurrence.layers)
        and type(model.head) is Softmax
    )


def _step_of(layer: Any) -> Step:
    """(B, E) and a state of (B, H) each → (B, H), the next state: one layer, one step."""
    if isinstance(layer, Cell):
        return layer.step
    cell, weights = CELLS[type(layer)], _by_columns(layer)

    def step(inputs: Tensor, state: State) -> tuple[Tensor, State]:
        end = cell(inputs, state if len(state) == 2 else state[0], *weights)
        end = end if len(state) == 2 else (end,)
        return end[0], end

    return step


def _by_columns(layer: nn.Module) -> tuple[Tensor, ...]:
    """The weights of a layer as its cell takes them: matrices in column order, then biases."""
    matrices = [getattr(layer, name).t().contiguous().t() for name in ("weight_ih_l0", "weight_hh_l0")]
    return *matrices, *(getattr(layer, name) for name in ("bias_ih_l0", "bias_hh_l0"))
