"""The cells written from their equations, one step at a time, gates in torch's order (i f g o; r z n)."""

from typing import Any

import torch
from torch import Tensor

from pipeline.model.recurrence import CELLS

# settings that the tests of every cell go over, by name: each cell with its defaults, and variants of LSTMs
SETTINGS: dict[str, dict[str, Any]] = {
    **{cell: {"cell": cell} for cell in CELLS},
    "slstm": {"cell": "slstm", "num_heads": 1},
    "mogrifier": {"cell": "lstm", "mogrifier_rounds": 3},
    "mogrifier of low rank": {"cell": "lstm", "mogrifier_rounds": 2, "mogrifier_rank": 2},
}


def zero_state(layer: Any, num_streams: int) -> list[Tensor]:
    """The state before the first step: h, c and the previous input; for an sLSTM its output, h, c and n."""
    sizes = [layer.hidden_size] * 4 if hasattr(layer, "head_norm") else [layer.hidden_size] * 2 + [layer.input_size]
    return [torch.zeros(num_streams, size, dtype=torch.float64) for size in sizes]


def recurrent_weight(layer: Any) -> Tensor:
    """The weight that weight dropout applies to: W_h, or the only one of a QRNN."""
    for name in ("weight_hh_l0", "weight_hh", "weight"):
        if hasattr(layer, name):
            weight: Tensor = getattr(layer, name)
            return weight
    raise AssertionError


def cell_step(cell: str, x: Tensor, state: list[Tensor], layer: Any, recurrent: Tensor | None = None) -> list[Tensor]:
    """(B, E) and (B, H) each → the next state, whose first part is the output; ``recurrent`` replaces W_h."""
    if cell in ("gru_reset_before", "mingru", "minlstm", "qrnn"):
        return own_cell_step(cell, x, state, layer, recurrent)
    if cell == "slstm":
        return slstm_step(x, state, layer, recurrent)
    if cell.startswith("mogrifier"):
        return mogrifier_step(x, state, layer, recurrent)
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


def own_cell_step(cell: str, x: Tensor, state: list[Tensor], layer: Any, recurrent: Tensor | None) -> list[Tensor]:
    """Cho et al. 2014, Feng et al. 2024 section 3 and Bradbury et al. 2017 section 2, fo-pooling."""
    h, sigmoid, bias = state[0], torch.sigmoid, layer.bias
    if cell == "qrnn":
        w = layer.weight if recurrent is None else recurrent
        both = torch.cat([state[2], x], dim=1) if w.shape[1] == 2 * x.shape[1] else x
        z, f, o = (both @ w.T + bias).chunk(3, dim=1)
        c = sigmoid(f) * state[1] + (1 - sigmoid(f)) * torch.tanh(z)
        return [sigmoid(o) * c, c, x]
    if cell == "gru_reset_before":
        w_h = layer.weight_hh if recurrent is None else recurrent
        (x_r, x_z, x_n), (u_r, u_z, u_n) = (x @ layer.weight.T + bias).chunk(3, dim=1), w_h.chunk(3)
        r, z = sigmoid(x_r + h @ u_r.T), sigmoid(x_z + h @ u_z.T)
        n = torch.tanh(x_n + (r * h) @ u_n.T)
        return [(1 - z) * n + z * h]
    if cell == "mingru":
        z, new = (x @ layer.weight.T + bias).chunk(2, dim=1)
        return [(1 - sigmoid(z)) * h + sigmoid(z) * new]
    f, i, new = (x @ layer.weight.T + bias).chunk(3, dim=1)
    f, i = sigmoid(f), sigmoid(i)
    return [f / (f + i) * h + i / (f + i) * new]


def slstm_step(x: Tensor, state: list[Tensor], layer: Any, recurrent: Tensor | None) -> list[Tensor]:
    """Beck et al. 2024, equations 8 to 14, without a stabiliser; then each head normalised.

    (B, E), and the last output, h, c and n → the next output, h, c and n. One unit after another.
    """
    _, h, c, n = state
    w_h = layer.weight_hh if recurrent is None else recurrent
    num_heads, size = layer.num_heads, layer.hidden_size // layer.num_heads
    columns: dict[str, list[Tensor]] = {"h": [], "c": [], "n": []}
    for unit in range(layer.hidden_size):
        head, place = divmod(unit, size)
        seen = h[:, head * size : (head + 1) * size]
        rows = [head * 4 * size + gate * size + place for gate in range(4)]
        f, i, z, o = (x @ layer.weight[row] + seen @ w_h[row] + layer.bias[row] for row in rows)
        f = f.exp() if layer.is_exponential else 1 / (1 + (-f).exp())
        columns["c"].append(f * c[:, unit] + i.exp() * torch.tanh(z))
        columns["n"].append(f * n[:, unit] + i.exp())
        columns["h"].append(columns["c"][-1] / columns["n"][-1] / (1 + (-o).exp()))
    h, c, n = (torch.stack(part, dim=1) for part in columns.values())
    heads = h.view(-1, num_heads, size)
    centred = heads - heads.mean(2, keepdim=True)
    output = (centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()).view(h.shape) * layer.head_norm
    return [output, h, c, n]


def mogrifier_step(x: Tensor, state: list[Tensor], layer: Any, recurrent: Tensor | None) -> list[Tensor]:
    """Melis et al. 2020, equations 1 and 2, then the LSTM."""
    h, c = state[:2]
    matrices = list(layer.mixers)
    if layer.rank is not None:
        matrices = [left @ right for left, right in zip(matrices[::2], matrices[1::2], strict=True)]
    for i, matrix in enumerate(matrices, start=1):
        if i % 2 == 1:
            x = 2 * torch.sigmoid(h @ matrix.T) * x
        else:
            h = 2 * torch.sigmoid(x @ matrix.T) * h
    w_h = layer.weight_hh if recurrent is None else recurrent
    i, f, g, o = (x @ layer.weight.T + h @ w_h.T + layer.bias).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(c), c]
