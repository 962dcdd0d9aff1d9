"""Run one layer of a cell with the fastest kernel there is for it.

On a GPU, and for most LSTMs on a CPU, that is one call of the fused kernel. On a CPU a wide LSTM in bf16 runs in
``wide_lstm``, a GRU in ``looped_gru`` and a tanh RNN in ``looped_rnn``. Letters: T time, B streams, E embedding,
H hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.model.cpu.looped_gru import LoopedGRU
from pipeline.model.cpu.looped_rnn import LoopedRNN
from pipeline.model.cpu.products import takes_onednn
from pipeline.model.cpu.wide_lstm import WideLSTM, is_faster
from pipeline.model.state import State

KERNELS: dict[type[nn.Module], Any] = {nn.LSTM: torch.lstm, nn.GRU: torch.gru, nn.RNN: torch.rnn_tanh}

# numbers of steps, and of values per step, from which it pays to lay the weights out for a loop of ours
LONG = 8
LARGE = 2048


def run_layer(layer: Any, inputs: Tensor, state: State, weights: list[Tensor] | None = None) -> tuple[Tensor, State]:
    """Run ``layer`` over ``inputs`` from a state of (1, B, H); ``weights``, as of ``weights_of``, replace its own."""
    if weights is None and is_fused(layer, inputs):
        hidden, end = layer(inputs, state if len(state) == 2 else state[0])
        return hidden, end if isinstance(end, tuple) else (end,)
    return run_kernel(layer, inputs, state, one_buffer(weights or weights_of(layer)))


def run_kernel(layer: Any, inputs: Tensor, state: State, weights: list[Tensor]) -> tuple[Tensor, State]:
    """Do what ``run_layer`` does, with these ``weights``: input and recurrent matrix, input and recurrent bias."""
    if is_fused(layer, inputs):
        begin = state if len(state) == 2 else state[0]
        hidden, *ends = KERNELS[type(layer)](inputs, begin, weights, True, 1, 0.0, layer.training, False, False)
    elif isinstance(layer, nn.GRU):
        hidden, *ends = LoopedGRU.apply(inputs, *state, *weights)
    else:
        looped = WideLSTM if isinstance(layer, nn.LSTM) else LoopedRNN
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        hidden, *ends = looped.apply(inputs, *state, weight_ih, weight_hh, bias_ih + bias_hh)
    return hidden, tuple(ends)


def is_fused(layer: Any, inputs: Tensor) -> bool:
    """Return whether (T, B, E) ``inputs`` run through torch's kernel, as they always do on a GPU."""
    if isinstance(layer, nn.LSTM):
        return not is_faster(inputs, weights_of(layer)[1])
    num_steps, num_streams, _ = inputs.shape
    is_small = num_steps < LONG or num_streams * layer.hidden_size < LARGE
    # without gradients only the products themselves can be faster
    return inputs.is_cuda or is_small or not (torch.is_grad_enabled() or takes_onednn(inputs))


def weights_of(layer: Any, recurrent: Tensor | None = None, types: Tensor | None = None) -> list[Tensor]:
    """Return the input and the recurrent matrix, the input and the recurrent bias.

    Args:
        recurrent: replaces the layer's recurrent matrix.
        types: the embeddings (V, E), if the inputs are one-hot (T, B, V): the input matrix is then that of their
            products (V columns).
    """
    weight = layer.weight_ih_l0
    if types is not None:
        with torch.autocast(weight.device.type, enabled=False):
            weight = weight @ types.t()
    return [weight, layer.weight_hh_l0 if recurrent is None else recurrent, layer.bias_ih_l0, layer.bias_hh_l0]


def one_buffer(weights: list[Tensor]) -> list[Tensor]:
    """On a GPU, copy the weights into one buffer and return views of it: cuDNN warns if they are not in one."""
    if not weights[0].is_cuda:
        return weights
    flat = torch.cat([weight.reshape(-1) for weight in weights])
    parts = flat.split([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]
