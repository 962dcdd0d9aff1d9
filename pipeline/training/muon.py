"""Muon (Jordan et al. 2024) for matrices, AdamW for the rest, in one optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pipeline.model.cpu.onednn import has_bf16_products
from pipeline.training.eager import AdamW

# of the quintic iteration and its number of steps, from Jordan et al.
COEFFICIENTS, NUM_ITERATIONS, EPS = (3.4445, -4.7750, 2.0315), 5, 1e-7
# Wide matrices are iterated through their Gram matrix (Zhang, Amsel, Chen & Dao 2026, "Gram Newton-Schulz"). Rounding
# in bf16 gives it negative eigenvalues, which grow, so it is computed anew after three iterations.
GRAM_ITERATIONS = (3, 2)


class Muon(AdamW):
    """b ← μ b + (1 − μ) g, w ← (1 − lr·λ) w − lr · 0.2 √max(rows, columns) · orthogonal((1 − μ) g + μ b).

    This holds in groups with ``orthogonal``; the others use AdamW. The factor gives the updates of a matrix the size of
    AdamW's (Liu et al. 2025, "Muon is scalable for LLM training"), so that one learning rate suits both. Like torch's
    fused optimizers, it reads ``grad_scale`` and ``found_inf`` on the device; ``torch.optim.Muon`` knows neither.
    """

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float, momentum: float
    ) -> None:
        groups = [{"orthogonal": False, **group} for group in groups]
        super().__init__(groups, lr=lr, betas=betas, eps=eps, fused=True)
        self.momentum = momentum

    def __setstate__(self, state: dict[str, Any]) -> None:
        # not AdamW's, which looks for its own entries in the state of every parameter
        torch.optim.Optimizer.__setstate__(self, state)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        super().step()
        self.param_groups = groups
        for group in groups:
            if group["orthogonal"]:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._update(parameter, lr=group["lr"], weight_decay=group["weight_decay"])

    def _update(self, parameter: Tensor, *, lr: float, weight_decay: float) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer, gradient = state["momentum_buffer"], parameter.grad
        assert gradient is not None
        if self.grad_scale is not None:
            gradient = gradient / self.grad_scale
        taken: float | Tensor = 1.0  # 0 if the update is refused
        if self.found_inf is not None:
            gradient = gradient.masked_fill(self.found_inf > 0, 0.0)
            taken = (self.found_inf == 0).to(parameter.dtype)
        buffer.add_((gradient - buffer) * ((1 - self.momentum) * taken))
        update = orthogonal(gradient.lerp(buffer, self.momentum)).to(parameter.dtype)
        rate = lr * 0.2 * math.sqrt(max(parameter.shape))
        parameter.mul_(1 - lr * weight_decay * taken).sub_(update * (rate * taken))


def orthogonal(matrix: Tensor) -> Tensor:
    """Return approximately U Vᵀ of ``matrix`` = U S Vᵀ, by iteration: singular values end up between 0.7 and 1.2.

    Float32 weights are multiplied in bf16 if the device does that natively, all others in their own precision.
    """
    native = matrix.is_cuda or has_bf16_products()
    narrow = matrix.bfloat16() if native and matrix.dtype == torch.float32 else matrix
    is_tall = matrix.shape[0] > matrix.shape[1]
    result = narrow.t() if is_tall else narrow
    result = result / result.norm().clamp(min=EPS)
    if result.shape[1] >= 2 * result.shape[0]:
        for num_iterations in GRAM_ITERATIONS:
            result = _iterate_on_gram(result, num_iterations)
    else:
        for _ in range(NUM_ITERATIONS):
            gram = result @ result.t()
            result = torch.addmm(result, _polynomial(gram), result, beta=COEFFICIENTS[0])
    return result.t() if is_tall else result


def _iterate_on_gram(matrix: Tensor, num_iterations: int) -> Tensor:
    """Return ``matrix`` X (R, C) after the iterations, with products of the smaller X Xᵀ (R, R) except for two.

    Each iteration multiplies X by a polynomial P of X Xᵀ, so X Xᵀ by P twice, and both commute.
    """
    a = COEFFICIENTS[0]
    gram = matrix @ matrix.t()
    factor: Tensor | None = None
    for i in range(num_iterations):
        rest = _polynomial(gram)  # P − a I
        if factor is None:
            factor = rest.clone()
            factor.diagonal().add_(a)
        else:
            factor = torch.addmm(factor, rest, factor, beta=a)
        if i + 1 < num_iterations:
            half = torch.addmm(gram, rest, gram, beta=a)
            gram = torch.addmm(half, half, rest, beta=a)
    assert factor is not None
    return factor @ matrix


def _polynomial(gram: Tensor) -> Tensor:
    _, b, c = COEFFICIENTS
    return torch.addmm(gram, gram, gram, beta=b, alpha=c)
