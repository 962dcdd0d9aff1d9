"""Embeddings (T, B, E) and a state in, hidden vectors (T, B, H) and the next state out.

tanh RNN (Elman 1990), LSTM (Hochreiter & Schmidhuber 1997) and GRU (Cho et al. 2014, reset after the product as the
fused kernels have it), each layer one call of the fused kernel (cuDNN on a GPU, oneDNN or ATen on a CPU), so that
what comes between layers is ours. Letters: T time, B streams, E embedding, H hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.model.precision import runs_in_autocast
from pipeline.model.segments import Segments
from pipeline.model.state import State

CELLS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Recurrence(nn.Module):
    """``num_layers`` layers of one cell with dropout between them (Zaremba et al. 2014), never within."""

    def __init__(self, cell: str, *, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.layers = nn.ModuleList(CELLS[cell](size, hidden_size) for size in sizes)
        self.num_parts = 2 if cell == "lstm" else 1  # (h, c) or (h,)
        self.hidden_size = hidden_size
        self.dropout = dropout

    def forward(self, inputs: Tensor, state: State, segments: Segments | None = None) -> tuple[Tensor, State]:
        """(T, B, E), state → (T, B, H), state after the last step; ``segments``: where streams begin anew."""
        if runs_in_autocast(inputs.device.type):
            return self._forward(inputs, state, segments)
        with torch.autocast(inputs.device.type, enabled=False):
            return self._forward(inputs.to(state[0].dtype), state, segments)

    def _forward(self, inputs: Tensor, state: State, segments: Segments | None) -> tuple[Tensor, State]:
        hidden = inputs
        ends: list[State] = []
        for index, layer in enumerate(self.layers):
            if index > 0:
                hidden = F.dropout(hidden, self.dropout, self.training)
            begin = tuple(part[index : index + 1].to(hidden.dtype) for part in state)  # (1, B, H) each
            if segments is not None:
                hidden, end = segments.run(layer, hidden, begin)
            else:
                hidden, end = layer(hidden, begin if self.num_parts == 2 else begin[0])
            ends.append(end if isinstance(end, tuple) else (end,))
        return hidden, tuple(torch.cat(parts).to(state[0].dtype) for parts in zip(*ends, strict=True))

    def initial_state(self, batch_size: int, *, device: torch.device, dtype: torch.dtype) -> State:
        """Zeros, (layers, B, H) each."""
        shape = (len(self.layers), batch_size, self.hidden_size)
        return tuple(torch.zeros(shape, device=device, dtype=dtype) for _ in range(self.num_parts))
