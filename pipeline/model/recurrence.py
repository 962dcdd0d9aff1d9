"""Embeddings (T, B, E) and a state in, hidden vectors (T, B, H) and the next state out.

tanh RNN (Elman 1990), LSTM (Hochreiter & Schmidhuber 1997) and GRU (Cho et al. 2014, reset after the product as the
fused kernels have it), each layer one call of the fused kernel (cuDNN on a GPU, oneDNN or ATen on a CPU), so that
what comes between layers is ours. Letters: T time, B streams, E embedding, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.model.kernels import run_layer
from pipeline.model.precision import runs_in_autocast
from pipeline.model.regularization import HIDDEN, Masks
from pipeline.model.segments import Segments
from pipeline.model.state import State

CELLS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Recurrence(nn.Module):
    """Layers of one cell, with dropout between them and on their recurrent weights."""

    def __init__(
        self,
        cell: str,
        *,
        input_size: int,
        hidden_sizes: Sequence[int],
        dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        weight_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = [input_size, *hidden_sizes]
        self.layers = nn.ModuleList(CELLS[cell](*pair) for pair in zip(sizes, hidden_sizes, strict=False))
        self.num_parts = 2 if cell == "lstm" else 1  # (h, c) or (h,)
        self.hidden_sizes = tuple(hidden_sizes)
        self.dropout, self.hidden_dropout, self.weight_dropout = dropout, hidden_dropout, weight_dropout

    def forward(
        self, inputs: Tensor, state: State, segments: Segments | None = None, masks: Masks | None = None
    ) -> tuple[Tensor, State]:
        """(T, B, E), state → (T, B, H) of the last layer, state after the last step.

        Args:
            segments: where streams begin anew within the window.
            masks: of locked and weight dropout; none: as when not training.
        """
        if runs_in_autocast(inputs.device.type):
            return self._forward(inputs, state, segments, masks)
        with torch.autocast(inputs.device.type, enabled=False):
            return self._forward(inputs.to(state[0].dtype), state, segments, masks)

    def _forward(
        self, inputs: Tensor, state: State, segments: Segments | None, masks: Masks | None
    ) -> tuple[Tensor, State]:
        layers: Any = self.layers
        hidden = inputs
        ends: list[State] = []
        for index, (layer, size) in enumerate(zip(layers, self.hidden_sizes, strict=True)):
            recurrent = None
            if index > 0:
                hidden = F.dropout(hidden, self.dropout, self.training)
            if index > 0 and masks is not None:
                hidden = masks.locked(hidden, self.hidden_dropout, place=HIDDEN, layer=index)
            if self.weight_dropout and masks is not None:
                recurrent = masks.weight(layer.weight_hh_l0, self.weight_dropout, layer=index)
            begin = tuple(part[index : index + 1, :, :size].to(hidden.dtype).contiguous() for part in state)
            run = run_layer if segments is None else segments.run
            hidden, end = run(layer, hidden, begin, recurrent)
            ends.append(end)
        return hidden, self._joined(ends, state[0].dtype)

    def _joined(self, ends: list[State], dtype: torch.dtype) -> State:
        """The layers' (1, B, size) as (layers, B, H) each, a smaller layer's followed by zeros."""
        if len(set(self.hidden_sizes)) > 1:
            largest = max(self.hidden_sizes)
            ends = [tuple(F.pad(part, (0, largest - part.shape[-1])) for part in end) for end in ends]
        return tuple(torch.cat(parts).to(dtype) for parts in zip(*ends, strict=True))

    def initial_state(self, batch_size: int, *, device: torch.device, dtype: torch.dtype) -> State:
        """Zeros, (layers, B, H) each, H the largest layer's."""
        shape = (len(self.layers), batch_size, max(self.hidden_sizes))
        return tuple(torch.zeros(shape, device=device, dtype=dtype) for _ in range(self.num_parts))
