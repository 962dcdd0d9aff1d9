"""One layer of a cell as one call of the fused kernel: (T, B, E) and a state in, (T, B, H) and the next state out.

Letters: T time, B streams, E embedding, H hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.model.state import State

KERNELS: dict[type[nn.Module], Any] = {nn.LSTM: torch.lstm, nn.GRU: torch.gru, nn.RNN: torch.rnn_tanh}


def run_layer(layer: Any, inputs: Tensor, state: State, recurrent: Tensor | None = None) -> tuple[Tensor, State]:
    """``inputs`` and (1, B, H) each through ``layer``; ``recurrent`` stands in for its recurrent weights."""
    begin = state if len(state) == 2 else state[0]
    if recurrent is None:
        hidden, end = layer(inputs, begin)
        return hidden, end if isinstance(end, tuple) else (end,)
    weights = one_buffer(weights_of(layer, recurrent))
    hidden, *ends = KERNELS[type(layer)](inputs, begin, weights, True, 1, 0.0, layer.training, False, False)
    return hidden, tuple(ends)


def weights_of(layer: Any, recurrent: Tensor | None = None) -> list[Tensor]:
    """Input and recurrent matrix, input and recurrent bias."""
    if recurrent is None:
        recurrent = layer.weight_hh_l0
    return [layer.weight_ih_l0, recurrent, layer.bias_ih_l0, layer.bias_hh_l0]


def one_buffer(weights: list[Tensor]) -> list[Tensor]:
    """On a GPU the same weights as views of one buffer, as cuDNN wants them (and warns where they are not)."""
    if not weights[0].is_cuda:
        return weights
    flat = torch.cat([weight.reshape(-1) for weight in weights])
    parts = flat.split([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]
