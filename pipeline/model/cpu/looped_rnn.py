"""A tanh RNN layer with its own loop over time, for a CPU, where no library has it as one kernel.

Torch's own layer adds to the gradient of the weights at every step, B rows at a time; here it is one product over the
whole window, as are the products of the inputs. Products are in autocast's format, everything else at least in float32.
Letters: T time, B streams, E embedding, H hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.model.cpu.products import (
    column_sums,
    product,
    product_dtype,
    product_over_rows,
    product_with,
    tanh_,
    transposed,
)


class LoopedRNN(torch.autograd.Function):
    """(T, B, E) and h (1, B, H) → (T, B, H), and h after the last step: h' = tanh(W x + U h + b) (Elman 1990)."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, hidden: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        low = product_dtype(weight_hh)
        exact = torch.promote_types(low, torch.float32)
        num_steps, num_streams, _ = inputs.shape
        size = weight_hh.shape[1]
        with torch.autocast(inputs.device.type, enabled=False):
            rows, weight_ih, weight_hh = inputs.to(low).flatten(0, 1), weight_ih.to(low), weight_hh.to(low)
            sums = product(rows, weight_ih.t()).to(exact).add_(bias).view(num_steps, num_streams, size)
            recurrent = product_with(weight_hh, num_rows=num_streams)
            hiddens = inputs.new_empty(num_steps + 1, num_streams, size, dtype=low)
            hiddens[0] = hidden[0]
            for total, before, after in zip(sums, hiddens[:-1], hiddens[1:], strict=True):
                after.copy_(tanh_(total.add_(recurrent(before))))
        ctx.save_for_backward(rows, weight_ih, weight_hh, hiddens)
        ctx.dtype = bias.dtype
        return hiddens[1:], hiddens[-1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor, grad_hidden: Tensor) -> tuple[Tensor, ...]:
        rows, weight_ih, weight_hh, hiddens = ctx.saved_tensors
        num_steps, num_streams, size = grad_outputs.shape
        exact = torch.promote_types(rows.dtype, torch.float32)
        with torch.autocast(rows.device.type, enabled=False):
            factors = 1 - hiddens[1:].to(exact).square()  # tanh′
            recurrent = product_with(transposed(weight_hh), num_rows=num_streams)
            grad_sums = torch.empty_like(hiddens[1:])
            carried = grad_hidden[0]  # ∂h from later steps
            parts = (grad_outputs.to(exact), factors, grad_sums)
            for grad_output, factor, grad_sum in zip(*(reversed(part.unbind(0)) for part in parts), strict=True):
                torch.mul(grad_output + carried, factor, out=grad_sum)
                carried = recurrent(grad_sum)
            flat = grad_sums.view(-1, size)  # (T·B, H)
            return (
                product(flat, weight_ih).view(num_steps, num_streams, -1),
                carried.unsqueeze(0),
                product_over_rows(flat, rows).to(ctx.dtype),
                product_over_rows(flat, hiddens[:-1].flatten(0, 1)).to(ctx.dtype),
                column_sums(flat, ctx.dtype),
            )
