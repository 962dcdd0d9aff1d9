"""A GRU layer with its own loop over time, for a CPU, where torch has no kernel of it for a whole window.

As in ``looped_rnn``, the products of the inputs and the gradient of each matrix are one product over the whole window;
products are in autocast's format, everything else at least in float32. Letters: T time, B streams, E embedding,
H hidden.
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


class LoopedGRU(torch.autograd.Function):
    """(T, B, E) and h (1, B, H) → (T, B, H), and h after the last step (Cho et al. 2014, in cuDNN's form).

    r, z = σ(W x + b + U h + c), m = U h + c, n = tanh(W x + b + r m), h' = (1 − z) n + z h; rows of W (3H, E), of
    U (3H, H), of b and c (3H,) in torch's order r, z, and n or m.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        hidden: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
    ) -> tuple[Tensor, Tensor]:
        low = product_dtype(weight_hh)
        exact = torch.promote_types(low, torch.float32)
        num_steps, num_streams, _ = inputs.shape
        size = weight_hh.shape[1]
        with torch.autocast(inputs.device.type, enabled=False):
            rows, weight_ih, weight_hh = inputs.to(low).flatten(0, 1), weight_ih.to(low), weight_hh.to(low)
            gates = product(rows, weight_ih.t()).to(exact).add_(bias_ih).view(num_steps, num_streams, 3, size)
            recurrent = product_with(weight_hh, bias_hh.to(low), num_rows=num_streams)
            hiddens = inputs.new_empty(num_steps + 1, num_streams, size, dtype=exact)
            hiddens[0] = hidden[0]
            middles = torch.empty_like(hiddens[1:])  # m
            for gate, middle, before, after in zip(gates, middles, hiddens[:-1], hiddens[1:], strict=True):
                products = recurrent(before.to(low)).view(num_streams, 3, size)
                reset, update = gate[:, :2].add_(products[:, :2]).sigmoid_().unbind(1)
                middle.copy_(products[:, 2])
                candidate = tanh_(gate[:, 2].addcmul_(reset, middle))
                torch.lerp(candidate, before, update, out=after)
        ctx.save_for_backward(rows, weight_ih, weight_hh, gates, middles, hiddens)
        ctx.dtype = bias_ih.dtype
        outputs = hiddens[1:].to(low)
        return outputs, outputs[-1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor, grad_hidden: Tensor) -> tuple[Tensor, ...]:
        rows, weight_ih, weight_hh, gates, middles, hiddens = ctx.saved_tensors
        num_steps, num_streams, _, size = gates.shape
        updates, befores = gates[:, :, 1], hiddens[:-1]
        with torch.autocast(rows.device.type, enabled=False):
            factors, of_candidate = _factors(gates, middles, befores)
            totals = torch.empty_like(befores)  # ∂h
            grads = torch.empty_like(gates, dtype=rows.dtype)  # of the sums under r and z, and of m
            recurrent = product_with(transposed(weight_hh), num_rows=num_streams)
            carried = grad_hidden[0]
            parts = (grad_outputs, totals, factors, grads, updates)
            for grad_output, total, factor, grad, update in zip(
                *(reversed(part.unbind(0)) for part in parts), strict=True
            ):
                torch.add(grad_output, carried, out=total)
                torch.mul(total.unsqueeze(1), factor, out=grad)
                carried = recurrent(grad.view(num_streams, -1)).to(total.dtype).addcmul_(total, update)
            flat = grads.view(-1, 3 * size)  # (T·B, 3H)
            grad_weight_hh = product_over_rows(flat, befores.to(rows.dtype).flatten(0, 1)).to(ctx.dtype)
            grad_bias_hh = column_sums(flat, ctx.dtype)
            torch.mul(totals, of_candidate, out=grads[:, :, 2])  # of the sum under n, in place of m's
            return (
                product(flat, weight_ih).view(num_steps, num_streams, -1),
                carried.unsqueeze(0).to(rows.dtype),
                product_over_rows(flat, rows).to(ctx.dtype),
                grad_weight_hh,
                column_sums(flat, ctx.dtype),
                grad_bias_hh,
            )


def _factors(gates: Tensor, middles: Tensor, befores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors by which ∂h is multiplied for other gradients.

    Returns:
        For the sums under r and z and for m, (T, B, 3, H); for the sum under n, (T, B, H).
    """
    reset, update, candidate = gates.unbind(2)
    of_candidate = (1 - update).mul_(1 - candidate.square())
    factors = torch.empty_like(gates)
    torch.mul(of_candidate, reset, out=factors[:, :, 2])
    torch.mul(factors[:, :, 2], middles, out=factors[:, :, 0]).mul_(1 - reset)
    torch.sub(befores, candidate, out=factors[:, :, 1]).mul_(update).mul_(1 - update)
    return factors, of_candidate
