"""A GRU whose reset gate acts before the recurrent product (Cho et al. 2014): a loop over time, no fused kernel has it.

All products of the inputs come in at once, and the gradient of the recurrent matrix is one product over the whole
window instead of a sum over steps. Letters: T time, B streams, H hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class ResetBefore(torch.autograd.Function):
    """(T, B, 3H) products of the inputs for r, z, n, (3H, H) weight, (B, H) start → (T, B, H).

    Recurrent products are taken in the format of ``products``; everything else at least in float32.
    """

    @staticmethod
    def forward(ctx: Any, products: Tensor, weight: Tensor, start: Tensor, resets: Tensor | None) -> Tensor:
        """``resets``: (T, B), where h_(t−1) counts as 0."""
        low, exact = products.dtype, torch.promote_types(products.dtype, torch.float32)
        size = weight.shape[1]
        low_weight = weight.to(low)
        for_gates, for_new = low_weight[: 2 * size].t(), low_weight[2 * size :].t()
        hidden = start.to(exact)
        before, gates, new, outputs = [], [], [], []
        for t, product in enumerate(products.unbind(0)):
            if resets is not None:
                hidden = hidden.masked_fill(resets[t].unsqueeze(1), 0)
            gate = torch.addmm(product[:, : 2 * size], hidden.to(low), for_gates).to(exact).sigmoid_()  # (B, 2H)
            reset, update = gate.chunk(2, dim=1)
            candidate = torch.addmm(product[:, 2 * size :], (reset * hidden).to(low), for_new).to(exact).tanh_()
            before.append(hidden)
            hidden = torch.lerp(candidate, hidden, update)
            gates.append(gate)
            new.append(candidate)
            outputs.append(hidden)
        result = torch.stack(outputs)
        ctx.save_for_backward(torch.stack(before), torch.stack(gates), torch.stack(new), low_weight, resets)
        ctx.dtypes = weight.dtype, start.dtype
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        before, gates, new, weight, resets = ctx.saved_tensors
        reset, update = gates.chunk(2, dim=2)  # (T, B, H) each
        size, low = weight.shape[1], weight.dtype
        of_gates, of_new = weight[: 2 * size], weight[2 * size :]
        # what ∂h_t is multiplied with to give the gradient of each product
        new_factor = (1 - update) * (1 - new.square())
        update_factor = (before - new) * update * (1 - update)
        reset_factor = before * reset * (1 - reset)
        grad_products = grad_outputs.new_empty(*before.shape[:2], 3 * size, dtype=before.dtype)
        carried = torch.zeros_like(before[0])  # ∂h_t of what comes after t
        for t in range(len(before) - 1, -1, -1):
            grad = grad_outputs[t] + carried
            grad_reset, grad_update, grad_new = grad_products[t].chunk(3, dim=1)
            torch.mul(grad, new_factor[t], out=grad_new)
            torch.mul(grad, update_factor[t], out=grad_update)
            grad_scaled = (grad_new.to(low) @ of_new).to(grad.dtype)  # of r h_(t−1)
            torch.mul(grad_scaled, reset_factor[t], out=grad_reset)
            carried = (grad_products[t, :, : 2 * size].to(low) @ of_gates).to(grad.dtype)
            carried.addcmul_(grad, update[t]).addcmul_(grad_scaled, reset[t])
            if resets is not None:
                carried.masked_fill_(resets[t].unsqueeze(1), 0)
        grad_products = grad_products.to(low)
        flat = grad_products.flatten(0, 1).t()  # (3H, T·B)
        weight_dtype, start_dtype = ctx.dtypes
        grad_weight = torch.cat([
            flat[: 2 * size] @ before.flatten(0, 1).to(low),
            flat[2 * size :] @ (reset * before).flatten(0, 1).to(low),
        ]).to(weight_dtype)  # fmt: skip
        return grad_products, grad_weight, carried.to(start_dtype), None
