"""The running average of the cells without a recurrent product: h_t = f_t h_(t−1) + (1 − f_t) x_t for all t at once.

A CPU does one fused multiply-add per step, in place, which passes over memory once. A GPU, on which every call costs a
launch, scans blocks of time side by side: first the ends of all blocks, then the same recurrence over the ends, then
every block from where the previous one ended. No logarithm or quotient is taken (Feng et al. 2024 scan in log space),
so nothing overflows, whatever the sign of x. Letters: T time, B streams, H hidden, N = B·H, C blocks of K steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# steps per block; the number of steps up to which the plain loop has no more launches
BLOCK, FEW = 8, 24
# devices that scan in blocks
BLOCKED = {"cuda"}


class RunningAverage(torch.autograd.Function):
    """(T, B, H) inputs x and gates, (B, H) start → (T, B, H) h, f = σ(gates); kept for backward: x, f, h."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, gates: Tensor, start: Tensor, resets: Tensor | None) -> Tensor:
        """``resets``: (T, B), true where h_(t−1) counts as 0."""
        forget = torch.sigmoid(gates)
        carried = _without_resets(forget, resets)
        hidden = torch.addcmul(inputs, forget, inputs, value=-1)  # (1 − f) x
        hidden[0].addcmul_(carried[0], start)
        scan_(hidden, carried)
        ctx.save_for_backward(inputs, forget, hidden, start, resets)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_hidden: Tensor) -> tuple[Tensor | None, ...]:
        inputs, forget, hidden, start, resets = ctx.saved_tensors
        carried = _without_resets(forget, resets)
        grad = grad_hidden.clone(memory_format=torch.contiguous_format)
        scan_(grad, carried, backwards=True)
        grad_start = carried[0] * grad[0]
        grad_inputs = torch.addcmul(grad, forget, grad, value=-1)  # (1 − f) ∂h
        before = _without_resets(torch.cat([start.unsqueeze(0), hidden[:-1]]), resets)
        # ∂f = (h_(t−1) − x) ∂h, times σ' = f (1 − f)
        grad_gates = before.sub_(inputs).mul_(forget).mul_(grad_inputs)
        return grad_inputs, grad_gates, grad_start, None


def running_average(inputs: Tensor, gates: Tensor, start: Tensor, resets: Tensor | None = None) -> Tensor:
    """See ``RunningAverage``."""
    hidden: Tensor = RunningAverage.apply(inputs, gates, start, resets)
    return hidden


def scan_(values: Tensor, factors: Tensor, *, backwards: bool = False) -> None:
    """Add factors_t · values_(t−1) to values_t, one t after another, in place; both are (T, …) and contiguous.

    ``backwards``: the transpose of that, which adds factors_(t+1) · values_(t+1) to values_t from the last t down.
    """
    if values.device.type not in BLOCKED:
        order = slice(None, None, -1) if backwards else slice(None)
        _loop_(values.unbind(0)[order], factors.unbind(0)[1:][order])
    elif backwards:
        flipped = values.flip(0)
        blocks_(flipped.flatten(1), factors.flip(0).roll(1, 0).flatten(1))
        values.copy_(flipped.flip(0))
    else:
        blocks_(values.flatten(1), factors.flatten(1))


def blocks_(values: Tensor, factors: Tensor) -> None:
    """Do ``scan_`` on (T, N) with about 3·``BLOCK`` calls per level of blocks instead of T."""
    num_steps = len(values)
    if num_steps <= FEW:
        _loop_(values.unbind(0), factors.unbind(0)[1:])
        return
    num_blocks = num_steps // BLOCK
    whole = num_blocks * BLOCK
    steps = values[:whole].view(num_blocks, BLOCK, -1).unbind(1)  # BLOCK × (C, N)
    links = factors[:whole].view(num_blocks, BLOCK, -1).unbind(1)
    ends, products = steps[0].clone(), links[0].clone()  # of each block, as if the previous one had ended in 0
    for step, link in zip(steps[1:], links[1:], strict=True):
        torch.addcmul(step, link, ends, out=ends)
        products.mul_(link)
    blocks_(ends, products)
    steps[0][1:].addcmul_(links[0][1:], ends[:-1])
    _loop_(steps, links[1:])
    _loop_(values[whole - 1 :].unbind(0), factors[whole:].unbind(0))


def _loop_(steps: Sequence[Tensor], links: Sequence[Tensor]) -> None:
    """Add to each step but the first its link times the step before, in place."""
    for before, step, link in zip(steps[:-1], steps[1:], links, strict=True):
        step.addcmul_(link, before)


def _without_resets(values: Tensor, resets: Tensor | None) -> Tensor:
    """Return (T, B, H) with zeros where ``resets``, (T, B), is true."""
    return values if resets is None else values.masked_fill(resets.unsqueeze(2), 0)
