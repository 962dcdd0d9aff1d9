"""An sLSTM layer's loop over time (Beck et al. 2024, "xLSTM", equations 8 to 17), forward and backward.

The paper carries a cell c, a normaliser n and a stabiliser m. Only two combinations of these three matter: the average
a = c/n, which is shown, and l = log n + m, the true logarithm of the normaliser. With them a step is

    g = i n⁻¹ = σ(ĩ − log f − l),  l' = ĩ − log g,  a' = a + g (z − a),  h' = o a',

in which nothing overflows, whatever the gates: log g is a log-sigmoid. A stream that has read nothing has n = 0 and so
l = −∞; outside this loop, 0 stands for −∞, so that a zero state is the state of a stream that begins.

Letters: T time, B streams, H hidden, K heads, D = H/K units of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pipeline.model.cpu.products import product_by_heads, product_over_rows


class LoopedSLSTM(torch.autograd.Function):
    """(T, B, 4H) products of the inputs, (4H, D) weight, (B, H) h, a and l → (T, B, H) h, and a and l at the end.

    Rows of the products and of the weight: for each head D for f, D for i, D for z, D for o. Recurrent products are
    computed in the format of ``products``; everything else at least in float32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        products: Tensor,
        weight: Tensor,
        hidden: Tensor,
        average: Tensor,
        log_normalizer: Tensor,
        resets: Tensor | None,
        is_exponential: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            resets: (T, B), true where a stream restarts before that input.
            is_exponential: f = exp(f̃), else σ(f̃).
        """
        low, exact = products.dtype, torch.promote_types(products.dtype, torch.float32)
        num_steps, num_streams, _ = products.shape
        weights = _by_heads(weight)  # (K, 4, D, D)
        num_heads, _, size, _ = weights.shape
        gates = products.view(num_steps, num_streams, num_heads, 4, size).transpose(1, 2)  # (T, K, B, 4, D)
        gates = gates.to(exact, copy=True, memory_format=torch.contiguous_format)
        # tanh x = 2 σ(2x) − 1: with the sums under z doubled, one σ serves z and o
        gates[:, :, :, 2] *= 2
        doubled = weights * weights.new_tensor([1, 1, 2, 1]).view(4, 1, 1)
        recurrent = product_by_heads(doubled.flatten(1, 2).to(low), num_rows=num_streams)
        hiddens = gates.new_empty(num_steps + 1, num_heads, num_streams, size)
        averages = torch.empty_like(hiddens)
        hiddens[0], averages[0], log = (_in_heads(part, num_heads) for part in (hidden, average, log_normalizer))
        log = begun(log)
        minus_one = gates.new_tensor(-1)
        before, average = hiddens[0], averages[0]
        parts = (gates, gates[:, :, :, 2:], hiddens[1:], averages[1:])
        for t, (gate, squashed, next_hidden, next_average) in enumerate(zip(*parts, strict=True)):
            if resets is not None:
                reset = resets[t].unsqueeze(1)
                before, log = before.masked_fill(reset, 0), log.masked_fill(reset, -torch.inf)
            gate += recurrent(before.to(low)).view_as(gate)
            forget, enter, half, output = gate.unbind(2)
            carried = forget + log if is_exponential else F.logsigmoid(forget).add_(log)
            log_share = F.logsigmoid(enter - carried)
            log = enter - log_share
            torch.exp(log_share, out=enter)  # g
            squashed.sigmoid_()
            candidate = torch.add(minus_one, half, alpha=2, out=half)
            average = torch.lerp(average, candidate, enter, out=next_average)
            before = torch.mul(output, average, out=next_hidden)
        ctx.save_for_backward(gates, hiddens, averages, weights.flatten(1, 2).to(low), resets)
        ctx.is_exponential, ctx.dtype = is_exponential, weight.dtype
        return _as_streams(hiddens[1:]), _as_streams(averages[-1]), ended(_as_streams(log))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor, grad_average: Tensor, grad_log: Tensor) -> tuple[Tensor | None, ...]:
        gates, hiddens, averages, weights, resets = ctx.saved_tensors
        num_steps, num_heads, num_streams, _, size = gates.shape
        low = weights.dtype
        of_log, of_average, of_hidden = (part.unbind(0) for part in _factors(gates, averages, ctx.is_exponential))
        _, shares, _, outputs = (part.unbind(0) for part in gates.unbind(3))
        keeps = (1 - gates[:, :, :, 1]).unbind(0)
        grads = gates.new_empty(num_heads, num_steps, num_streams, 4, size)
        by_step, to_average = grads.unbind(1), grads[:, :, :, 1:3].unbind(1)
        recurrent = product_by_heads(weights.transpose(1, 2), num_rows=num_streams)
        grad_average, grad_log = (_in_heads(part, num_heads).clone() for part in (grad_average, grad_log))
        carried = torch.zeros_like(hiddens[0])  # ∂h from later steps
        for t, grad_output in reversed(list(enumerate(_in_heads(grad_outputs, num_heads)))):
            total = grad_output + carried
            grad_average.addcmul_(total, outputs[t])
            torch.mul(grad_average.unsqueeze(2), of_average[t], out=to_average[t])
            forget, enter, _, output = by_step[t].unbind(2)
            enter.addcmul_(grad_log, shares[t])
            grad_log -= enter
            torch.mul(grad_log, of_log[t], out=forget)
            torch.mul(total, of_hidden[t], out=output)
            grad_average *= keeps[t]
            carried = recurrent(by_step[t].flatten(2).to(low)).to(total.dtype)
            if resets is not None:
                carried.masked_fill_(resets[t].unsqueeze(1), 0)
        befores = hiddens[:-1] if resets is None else hiddens[:-1].masked_fill(resets.view(num_steps, 1, -1, 1), 0)
        grad_weight = torch.stack([
            product_over_rows(grad, before) for grad, before in zip(
                grads.to(low).flatten(3).flatten(1, 2),  # (K, T·B, 4D)
                befores.transpose(0, 1).to(low).flatten(1, 2),  # (K, T·B, D)
                strict=True,
            )
        ])  # fmt: skip
        grad_products = grads.permute(1, 2, 0, 3, 4).to(low).reshape(num_steps, num_streams, -1)  # (T, B, 4H)
        starts = (_as_streams(part) for part in (carried, grad_average, grad_log))
        return grad_products, grad_weight.flatten(0, 1).to(ctx.dtype), *starts, None, None


def begun(log: Tensor) -> Tensor:
    """Return the l of a state, in which the 0 of a stream that has read nothing becomes −∞."""
    return log.masked_fill(log == 0, -torch.inf)


def ended(log: Tensor) -> Tensor:
    """Return l as a state holds it: 0, which means something else there, becomes the smallest normal number."""
    return log.masked_fill(log == 0, torch.finfo(log.dtype).tiny)


def _factors(gates: Tensor, averages: Tensor, is_exponential: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors by which gradients are multiplied, for the whole window at once.

    Returns:
        From ∂(log f + l) to the sums under f, (T, K, B, D); from ∂a to those under i (by way of a) and z,
        (T, K, B, 2, D); from ∂h to those under o, (T, K, B, D).
    """
    forget, share, candidate, output = gates.unbind(3)
    of_average = torch.empty_like(gates[:, :, :, :2])
    keep = torch.addcmul(share, share, share, value=-1)  # g (1 − g)
    torch.sub(candidate, averages[:-1], out=of_average[:, :, :, 0]).mul_(keep)
    torch.addcmul(share, share * candidate, candidate, value=-1, out=of_average[:, :, :, 1])  # g (1 − z²)
    shown = averages[1:] * output
    of_hidden = shown.addcmul_(shown, output, value=-1)  # a o (1 − o)
    of_log = torch.ones_like(forget) if is_exponential else torch.sigmoid(-forget)
    return of_log, of_average, of_hidden


def _by_heads(weight: Tensor) -> Tensor:
    """(4H, D) → (K, 4, D, D)."""
    size = weight.shape[1]
    return weight.view(-1, 4, size, size)


def _in_heads(values: Tensor, num_heads: int) -> Tensor:
    """(…, B, H) → (…, K, B, D)."""
    return values.unflatten(-1, (num_heads, -1)).transpose(-3, -2)


def _as_streams(values: Tensor) -> Tensor:
    """(…, K, B, D) → (…, B, H)."""
    return values.transpose(-3, -2).flatten(-2)
