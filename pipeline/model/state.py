"""Hidden state: a tuple of tensors (layers, B, H): LSTM's (h, c), QRNN's (c, the previous input), sLSTM's (h,
average, log n), the others' (h,).

If layers differ in size, H is the largest, and a smaller layer uses the beginning of its row. A model that attends to
the past has further parts: what it keeps, and, in (1, B, 2), how many tokens there were and which slot is the oldest.
In every part the second dimension is the streams, and zeros are the state before any text. Letters: B streams,
H hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor

State = tuple[Tensor, ...]


def detach(state: State) -> State:
    """Return the same values without the graph that made them: here back-propagation through time is cut off."""
    return tuple(part.detach() for part in state)


def zeros_like(state: State) -> State:
    """Return a zero state of the same shape, as at the start of an epoch."""
    return tuple(torch.zeros_like(part) for part in state)


def select(state: State, rows: Tensor | slice) -> State:
    """Return the state of some streams only."""
    return tuple(part[:, rows].contiguous() for part in state)


def concatenate(states: list[State]) -> State:
    """Return the states of several groups of streams, side by side."""
    return tuple(torch.cat(parts, dim=1) for parts in zip(*states, strict=True))
