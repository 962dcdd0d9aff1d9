"""A GRU whose reset gate acts before the recurrent product (Cho et al. 2014), as a loop: no fused kernel has it.

The products of all inputs are passed in, and the gradient of the recurrent matrix is one product over the whole window
instead of a sum over steps. Letters: T time, B streams, H hidden.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pipeline.model.cpu.products import product_over_rows, product_with, tanh_, transposed


class ResetBefore(torch.autograd.Function):
    """(T, B, 3H) products of the inputs for r, z, n, (3H, H) weight, (B, H) start → (T, B, H).

    Recurrent products are computed in the format of ``products``; everything else at least in float32.
    """

    @staticmethod
    def forward(ctx: Any, products: Tensor, weight: Tensor, start: Tensor, resets: Tensor | None) -> Tensor:
        """``resets``: (T, B), true where h_(t−1) counts as 0."""
        low, exact = products.dtype, torch.promote_types(products.dtype, torch.float32)
        num_steps, num_streams, _ = products.shape
        size = weight.shape[1]
        low_weight = weight.to(low)
        for_gates, for_new = (
            # laying the weights out for a single step would take longer than the step
            product_with(part, num_rows=num_streams) if num_steps > 1 else partial(F.linear, weight=part)
            for part in _split(low_weight)
        )
        gates = products.to(exact, copy=True).view(num_steps, num_streams, 3, size)
        hiddens = gates.new_empty(num_steps + 1, num_streams, size)
        scaled = torch.empty_like(hiddens[1:], dtype=low)  # r h_(t−1)
        hiddens[0] = start
        for t, (gate, shown, hidden, after) in enumerate(zip(gates, scaled, hiddens[:-1], hiddens[1:], strict=True)):
            before = hidden if resets is None else hidden.masked_fill(resets[t].unsqueeze(1), 0)
            opening = gate[:, :2].add_(for_gates(before.to(low)).view(num_streams, 2, size))
            reset, update = opening.sigmoid_().unbind(1)
            torch.mul(reset, before, out=shown)
            candidate = tanh_(gate[:, 2].add_(for_new(shown)))
            torch.lerp(candidate, before, update, out=after)
        ctx.save_for_backward(gates, scaled, hiddens, low_weight, resets)
        ctx.dtypes = weight.dtype, start.dtype
        return hiddens[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        gates, scaled, hiddens, weight, resets = ctx.saved_tensors
        num_steps, num_streams, _, size = gates.shape
        before = hiddens[:-1] if resets is None else hiddens[:-1].masked_fill(resets.unsqueeze(2), 0)
        reset, update, new = gates.unbind(2)  # (T, B, H) each
        # the factors by which ∂h_t is multiplied for the gradient of each product
        new_factor = (1 - update).mul_(1 - new.square())
        update_factor = (before - new).mul_(update).mul_(1 - update)
        reset_factor = (1 - reset).mul_(reset).mul_(before)
        of_gates, of_new = (product_with(transposed(part), num_rows=num_streams) for part in _split(weight))
        grad_products = torch.empty_like(gates, dtype=weight.dtype)
        carried = torch.zeros_like(hiddens[0])  # ∂h_t from the steps after t
        for t in range(num_steps - 1, -1, -1):
            grad, grad_product = grad_outputs[t] + carried, grad_products[t]
            torch.mul(grad, update_factor[t], out=grad_product[:, 1])
            grad_new = torch.mul(grad, new_factor[t]).to(weight.dtype)
            grad_product[:, 2] = grad_new
            grad_scaled = of_new(grad_new).to(grad.dtype)  # of r h_(t−1)
            torch.mul(grad_scaled, reset_factor[t], out=grad_product[:, 0])
            carried = of_gates(grad_product[:, :2].flatten(1)).to(grad.dtype)
            carried.addcmul_(grad, update[t]).addcmul_(grad_scaled, reset[t])
            if resets is not None:
                carried.masked_fill_(resets[t].unsqueeze(1), 0)
        flat = grad_products.view(-1, 3 * size)  # (T·B, 3H)
        weight_dtype, start_dtype = ctx.dtypes
        grad_weight = torch.cat([
            product_over_rows(flat[:, : 2 * size], before.to(weight.dtype).flatten(0, 1)),
            product_over_rows(flat[:, 2 * size :], scaled.flatten(0, 1)),
        ]).to(weight_dtype)  # fmt: skip
        return grad_products.flatten(2), grad_weight, carried.to(start_dtype), None


def _split(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(3H, H) → the rows of both gates, (2H, H), and of the candidate, (H, H)."""
    size = weight.shape[1]
    return weight[: 2 * size], weight[2 * size :]
