"""The cells written from their equations, one step at a time, gates in torch's order (i f g o; r z n)."""

from typing import Any

import torch
from torch import Tensor


def cell_step(cell: str, x: Tensor, state: list[Tensor], layer: Any, recurrent: Tensor | None = None) -> list[Tensor]:
    """(B, E) and (B, H) each → the next state, whose first part is the output; ``recurrent`` replaces W_h."""
    w_x, w_h = layer.weight_ih_l0, layer.weight_hh_l0 if recurrent is None else recurrent
    from_x, from_h = x @ w_x.T + layer.bias_ih_l0, state[0] @ w_h.T + layer.bias_hh_l0
    if cell == "rnn":
        return [torch.tanh(from_x + from_h)]
    if cell == "lstm":
        i, f, g, o = (from_x + from_h).chunk(4, dim=1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return [torch.sigmoid(o) * torch.tanh(c), c]
    (r_x, z_x, n_x), (r_h, z_h, n_h) = from_x.chunk(3, dim=1), from_h.chunk(3, dim=1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return [(1 - z) * n + z * state[0]]
