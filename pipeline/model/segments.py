"""Run a window in which some streams restart as one padded call per layer, exact for every stream.

Each stretch between resets becomes a row of its own: B streams with n resets are B + n rows of the same call, padded
to the longest. The rows are split and rejoined around every layer, so that what lies between layers sees (T, B, H) as
always. The cells that have no kernel (``cells``) take the resets themselves.
Letters: T time, B streams, R rows, H hidden.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.model.kernels import run_kernel, run_layer, weights_of
from pipeline.model.state import State

# a gate's argument at which its sigmoid is exactly 0 or 1 in every number format
SATURATED = 1e4


class Segments:
    """How the streams of a window are cut; the same for every layer."""

    def __init__(self, resets: np.ndarray[Any, np.dtype[np.bool_]], *, device: torch.device) -> None:
        """
        Args:
            resets: (T, B); true where a stream has a zero state before that input.
        """
        num_steps, num_streams = resets.shape
        cuts = resets.copy()
        cuts[0] = True
        stream, begin = np.nonzero(cuts.T)  # (R,) each, the rows of a stream one after another
        num_rows = len(stream)
        last = np.searchsorted(stream, np.arange(num_streams), side="right") - 1  # (B,)
        end = np.append(begin[1:], num_steps)
        end[last] = num_steps
        length = end - begin
        step = np.arange(length.max())[:, None]  # (longest, 1)
        row = (np.cumsum(cuts.T) - 1).reshape(num_streams, num_steps).T  # (T, B)

        def on_device(values: Any) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device, non_blocking=True)

        self.num_rows = num_rows
        self.resets = on_device(resets)  # (T, B)
        # the content of the padding does not matter: nothing reads what is computed from it
        self._spread = on_device((np.minimum(begin + step, num_steps - 1) * num_streams + stream).reshape(-1))
        self._collect = on_device(((np.arange(num_steps)[:, None] - begin[row]) * num_rows + row).reshape(-1))
        self._stream = on_device(stream)
        self._is_zero = on_device(resets[begin, stream])
        self._last = on_device(last)
        self._ends = on_device((length[last] - 1) * num_rows + last)
        self._padding = on_device(step >= length)  # (longest, R)

    def run(
        self, layer: Any, inputs: Tensor, state: State, weights: list[Tensor] | None = None
    ) -> tuple[Tensor, State]:
        """Run ``layer``: (T, B, E) and (1, B, H) each → (T, B, H), the state of every stream after its last step.

        ``weights``, as of ``weights_of``, replace the layer's own.
        """
        num_steps, num_streams, size = inputs.shape
        rows = inputs.reshape(-1, size).index_select(0, self._spread).view(-1, self.num_rows, size)  # (longest, R, E)
        begin = tuple(
            part.index_select(1, self._stream).masked_fill(self._is_zero.unsqueeze(1), 0) for part in state
        )  # (1, R, H) each
        if len(state) == 2:
            hidden, end = lstm_with_pauses(layer, rows, begin, self._padding, weights)
        else:
            hidden, end = run_layer(layer, rows, begin, weights)[0], ()
        flat = hidden.reshape(-1, hidden.shape[-1])
        last_hidden = flat.index_select(0, self._ends).unsqueeze(0)  # (1, B, H)
        cells = tuple(part.index_select(1, self._last) for part in end[1:])
        return flat.index_select(0, self._collect).view(num_steps, num_streams, -1), (last_hidden, *cells)


def lstm_with_pauses(
    layer: Any, inputs: Tensor, state: State, pauses: Tensor, weights: list[Tensor] | None = None
) -> tuple[Tensor, State]:
    """Run an LSTM layer whose cells stay exactly as they are where ``pauses``, (T, R), is true.

    The kernel returns no cell but the last, so a shorter row has to carry its own through the padding: an additional
    input closes the input gates and opens the forget gates there.
    """
    size = layer.weight_hh_l0.shape[1]
    column = inputs.new_zeros(4, size, 1)  # input, forget, cell and output gates
    column[0], column[1] = -SATURATED, SATURATED
    weight, *rest = weights or weights_of(layer)
    weight = torch.cat([weight, column.view(-1, 1).to(weight.dtype)], dim=1)  # (4H, E + 1)
    inputs = torch.cat([inputs, pauses.unsqueeze(2).to(inputs.dtype)], dim=2)
    return run_kernel(layer, inputs, state, [weight, *rest])
