"""Hidden state: a tuple of tensors (layers, B, H): LSTM's (h, c), QRNN's (c, the input before), sLSTM's (h,
average, log n), the others' (h,).

Where layers differ in size, H is the largest and a smaller one uses the first of its row. What attends to the past has
further parts: what it keeps, and (1, B, 2) how many tokens there were and which slot is the oldest. Whatever a part is,
its second dimension is the streams', and zeros are the state before any text. Letters: B streams, H hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor

State = tuple[Tensor, ...]


def detach(state: State) -> State:
    """The same values without the graph that made them: where back-propagation through time is cut off."""
    return tuple(part.detach() for part in state)


def zeros_like(state: State) -> State:
    """Return a zero state of the same shape, as at the start of an epoch."""
    return tuple(torch.zeros_like(part) for part in state)


def select(state: State, rows: Tensor | slice) -> State:
    """The state of some streams only."""
    return tuple(part[:, rows].contiguous() for part in state)


def concatenate(states: list[State]) -> State:
    """The states of several groups of streams, side by side."""
    return tuple(torch.cat(parts, dim=1) for parts in zip(*states, strict=True))
