"""An LSTM layer with its own loop over time, for what the fused kernel of a CPU does slowly: wide layers in bf16.

oneDNN adds to the gradients of both weight matrices at every step, B rows at a time, and they no longer fit in a
cache; here each gradient is one product over the whole window, as are the products of the inputs. Products are in
autocast's format, gates and cells at least in float32; the recurrent weights are laid out for oneDNN once per window,
not at every step. Letters: T time, B streams, E embedding, H hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.model.cpu.products import column_sums, product_dtype, product_with, tanh_, transposed

# hidden size from which this is faster than oneDNN's kernel (benchmarks/LOG.md)
WIDE = 640


def is_faster(inputs: Tensor, weight_hh: Tensor) -> bool:
    """Return whether to run (T, B, E) ``inputs`` here, with (4H, H) recurrent weights."""
    is_low = product_dtype(weight_hh) == torch.bfloat16
    return is_low and not inputs.is_cuda and weight_hh.shape[1] >= WIDE and torch.is_grad_enabled()


class WideLSTM(torch.autograd.Function):
    """(T, B, E) and h, c (1, B, H) → (T, B, H), and h, c after the last step (Hochreiter & Schmidhuber 1997).

    i, f, o = σ(W x + U h + b), k = tanh(W x + U h + b), c' = f c + i k, h' = o tanh(c'); rows of W (4H, E), U (4H, H)
    and b (4H,) in torch's order i, f, k, o.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, hidden: Tensor, cell: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        low = product_dtype(weight_hh)
        exact = torch.promote_types(low, torch.float32)
        num_steps, num_streams, _ = inputs.shape
        size = weight_hh.shape[1]
        with torch.autocast(inputs.device.type, enabled=False):
            rows, weight_ih, weight_hh = inputs.to(low).flatten(0, 1), weight_ih.to(low), weight_hh.to(low)
            gates = (rows @ weight_ih.t()).to(exact).add_(bias).view(num_steps, num_streams, 4, size)
            # tanh x = 2 σ(2x) − 1: with the sums under k doubled, one σ serves all four gates
            gates[:, :, 2] *= 2
            scale = weight_hh.new_tensor([1, 1, 2, 1]).repeat_interleave(size).unsqueeze(1)
            recurrent = product_with(weight_hh * scale, num_rows=num_streams)
            hiddens = inputs.new_empty(num_steps + 1, num_streams, size, dtype=low)
            cells = torch.empty_like(hiddens, dtype=exact)
            squashed = torch.empty_like(cells[1:])  # tanh of the cells
            hiddens[0], cells[0] = hidden[0], cell[0]
            hidden, cell = hiddens[0], cells[0]
            steps = zip(gates, hiddens[1:], cells[1:], squashed, strict=True)
            for gate, next_hidden, next_cell, shown in steps:
                gate += recurrent(hidden).view(num_streams, 4, size)
                enter, forget, half, output = gate.sigmoid_().unbind(1)
                torch.mul(cell, forget, out=next_cell).addcmul_(enter, half, value=2).sub_(enter)
                tanh_(shown.copy_(next_cell))
                torch.mul(shown, output, out=next_hidden)
                hidden, cell = next_hidden, next_cell
            gates[:, :, 2].mul_(2).sub_(1)
        ctx.save_for_backward(rows, weight_ih, weight_hh, gates, hiddens, cells, squashed)
        ctx.dtype = bias.dtype
        return hiddens[1:], hiddens[-1:], cells[-1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor, grad_hidden: Tensor, grad_cell: Tensor) -> tuple[Tensor, ...]:
        rows, weight_ih, weight_hh, gates, hiddens, cells, squashed = ctx.saved_tensors
        num_steps, num_streams, _, size = gates.shape
        with torch.autocast(rows.device.type, enabled=False):
            from_cell, output_factor, to_cell = gradient_factors(gates, cells[:-1], squashed)
            grad_hidden, grad_cell = grad_hidden[0].to(rows.dtype), grad_cell[0].to(gates.dtype, copy=True)
            grad_gates = torch.empty_like(gates, dtype=rows.dtype)
            recurrent = product_with(transposed(weight_hh), num_rows=num_streams)
            parts = (grad_outputs.to(gates.dtype), grad_gates, from_cell, output_factor, to_cell, gates[:, :, 1])
            for grad_output, grad_gate, cell_factor, gate_factor, factor, forget in zip(
                *(reversed(part.unbind(0)) for part in parts), strict=True
            ):
                grad_shown = grad_output + grad_hidden
                grad_cell.addcmul_(grad_shown, factor)
                torch.mul(grad_cell.unsqueeze(1), cell_factor, out=grad_gate[:, :3])
                torch.mul(grad_shown, gate_factor, out=grad_gate[:, 3])
                grad_cell *= forget
                grad_hidden = recurrent(grad_gate.view(num_streams, -1))
            flat = grad_gates.view(-1, 4 * size)  # (T·B, 4H)
            grad_inputs = (flat @ weight_ih).view(num_steps, num_streams, -1)
            grad_weight_ih = (flat.t() @ rows).to(ctx.dtype)
            grad_weight_hh = (flat.t() @ hiddens[:-1].flatten(0, 1)).to(ctx.dtype)
            grad_bias = column_sums(flat, ctx.dtype)
        return (
            grad_inputs, grad_hidden.unsqueeze(0), grad_cell.unsqueeze(0), grad_weight_ih, grad_weight_hh, grad_bias,
        )  # fmt: skip


def gradient_factors(gates: Tensor, befores: Tensor, squashed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors by which gradients of an LSTM are multiplied, for the whole window at once.

    Args:
        gates: i, f, k, o of each step, (T, B, 4, H).
        befores: the cells before each step, (T, B, H).
        squashed: tanh of the cells after each step, (T, B, H).

    Returns:
        From ∂c to the sums under i, f and k, (T, B, 3, H); from ∂h to the sum under o, and to ∂c, (T, B, H) each.
    """
    enter, forget, candidate, output = gates.unbind(2)
    from_cell = torch.empty_like(gates[:, :, :3])
    to_enter = torch.mul(enter, candidate, out=from_cell[:, :, 0])  # k i (1 − i)
    to_enter.addcmul_(to_enter, enter, value=-1)
    torch.addcmul(forget, forget, forget, value=-1, out=from_cell[:, :, 1]).mul_(befores)  # c f (1 − f)
    torch.addcmul(enter, enter * candidate, candidate, value=-1, out=from_cell[:, :, 2])  # i (1 − k²)
    shown = output * squashed
    to_cell = torch.addcmul(output, shown, squashed, value=-1)  # o (1 − tanh² c)
    return from_cell, shown.addcmul_(shown, output, value=-1), to_cell  # the second: o tanh c (1 − o)
