"""The output product and cross-entropy in one.

One autograd function joins the output product and cross-entropy; it turns the logits into their own gradient in
place: nothing else of size tokens × vocabulary is kept. If even that is too large, rows are processed a chunk at a
time, and the gradients of the weights are summed on the way. Letters: N = T·B tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.model.cpu.products import add_over_rows, column_sums, linear, product, product_dtype, product_over_rows
from pipeline.model.precision import autocast_where_native

IGNORED = -100
# rows of logits turned into probabilities at a time on a CPU: a block stays in the cache
ROWS_AT_ONCE = 32
# rows scored at a time on a CPU without gradients: measured a tenth faster than a whole window at once
ROWS_SCORED_AT_ONCE = 256
# most logits that exist at a time: 128 MiB of float32 on a CPU, 1 GiB on a GPU, which wants larger products
MOST_LOGITS = {"cpu": 2**25, "cuda": 2**28}


def linear_logits(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(…, H) → (…, V), at least float32."""
    logits = linear(hidden, weight, bias)
    return logits if logits.dtype == torch.float64 else logits.float()


def linear_cross_entropy(
    rows: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *, most_logits: int | None = None
) -> Tensor:
    """(N, H), (N,) → Σ −log softmax(rows · weightᵀ + bias)[target], at most about ``most_logits`` logits at a time."""
    chunk = rows_at_a_time(len(bias), rows.device, most_logits)
    nats: Tensor
    with autocast_where_native(rows.device.type):
        if len(rows) <= chunk:
            nats = LinearCrossEntropy.apply(rows, weight, bias, targets)
        else:
            nats = ChunkedLinearCrossEntropy.apply(rows, weight, bias, targets, chunk)
    return nats


def linear_loss_and_nats(
    rows: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *, most_logits: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return ``linear_cross_entropy`` and, without gradient, its (N,) nats; from the same logits if they fit."""
    if len(rows) > rows_at_a_time(len(bias), rows.device, most_logits):
        nats = linear_token_nats(rows.detach(), weight.detach(), bias.detach(), targets, most_logits=most_logits)
        return linear_cross_entropy(rows, weight, bias, targets, most_logits=most_logits), nats
    found: tuple[Tensor, Tensor]
    with autocast_where_native(rows.device.type):
        found = LinearLossAndNats.apply(rows, weight, bias, targets)
    return found


def linear_token_nats(
    rows: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *, most_logits: int | None = None
) -> Tensor:
    """(N, H), (N,) → (N,) nats, 0 where the target is −100, for use without gradients."""
    chunk = rows_at_a_time(len(bias), rows.device, most_logits)
    if rows.device.type == "cpu":
        chunk = min(chunk, ROWS_SCORED_AT_ONCE)
    parts = zip(rows.split(chunk), targets.split(chunk), strict=True)
    return torch.cat([F.cross_entropy(linear_logits(h, weight, bias), t, reduction="none") for h, t in parts])


def rows_at_a_time(logits_of_a_row: int, device: torch.device, most_logits: int | None) -> int:
    """Return the number of rows whose logits may exist at the same time."""
    return max(1, (most_logits or MOST_LOGITS.get(device.type, MOST_LOGITS["cuda"])) // logits_of_a_row)


def spread(weight: Tensor) -> None:
    """Fill (…, H) uniformly in ±1/√H."""
    bound = 1 / math.sqrt(weight.shape[-1])
    with torch.no_grad():
        weight.uniform_(-bound, bound)


class LinearCrossEntropy(torch.autograd.Function):
    """Σ over N of −log softmax(hidden · weightᵀ + bias)[target], with ∂/∂logits = softmax − onehot(target)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Any:
        return LinearCrossEntropy.nats_of(ctx, hidden, weight, bias, targets).sum()

    @staticmethod
    def nats_of(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        """Return the nats of each row, (N,), and keep in ``ctx`` what the gradients are computed from."""
        low = product_dtype(weight)
        with torch.autocast(hidden.device.type, enabled=False):
            hidden, low_weight = hidden.to(low), weight.to(low)
            logits = product(hidden, low_weight.t(), bias.to(low))  # (N, V)
            nats = logits_to_gradient(logits, targets)
        ctx.save_for_backward(hidden, low_weight, logits)
        ctx.dtypes = weight.dtype, bias.dtype
        return nats

    @staticmethod
    def backward(ctx: Any, grad_nats: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, grad_logits = ctx.saved_tensors
        weight_dtype, bias_dtype = ctx.dtypes
        scale = grad_nats.to(hidden.dtype)
        # the incoming factor is applied to the (N, H) sides, never to anything of size N × V
        grad_hidden = product(grad_logits, weight) * scale if ctx.needs_input_grad[0] else None
        grad_weight = product_over_rows(grad_logits, hidden * scale).to(weight_dtype)
        grad_bias = column_sums(grad_logits, bias_dtype) * grad_nats
        return grad_hidden, grad_weight, grad_bias, None


class LinearLossAndNats(torch.autograd.Function):
    """The same sum, and the (N,) nats that it sums, which have no gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        nats = LinearCrossEntropy.nats_of(ctx, hidden, weight, bias, targets)
        ctx.mark_non_differentiable(nats)
        return nats.sum(), nats

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return LinearCrossEntropy.backward(ctx, grad_loss)


class ChunkedLinearCrossEntropy(torch.autograd.Function):
    """The same sum, ``chunk`` rows at a time; its gradients are computed on the way, up to the incoming factor."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, chunk: int) -> Tensor:
        gradients = tuple(torch.zeros_like(part) for part in (hidden, weight, bias))
        ctx.gradients = gradients
        return add_gradients(gradients, hidden, weight, bias, targets, chunk=chunk)

    @staticmethod
    def backward(ctx: Any, grad_nats: Tensor) -> tuple[Tensor | None, ...]:
        return *scaled_once(ctx, grad_nats), None, None


def scaled_once(ctx: Any, factor: Tensor) -> list[Tensor]:
    """Return the gradients that a loss computed on its way forward, times the incoming ``factor``."""
    if ctx.gradients is None:
        raise RuntimeError("a loss in chunks can be differentiated only once: its gradients are not kept")
    gradients, ctx.gradients = ctx.gradients, None
    # in place: a second copy of the (V, H) gradient would undo what the chunks save
    return [gradient.mul_(factor) for gradient in gradients]


def add_gradients(
    gradients: tuple[Tensor, ...],
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    *,
    chunk: int,
    to_gradient: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Add ∂nats/∂hidden (N, H), ∂weight (V, H), ∂bias (V,) to ``gradients``, by ``chunk`` rows; return the nats.

    Args:
        to_gradient: for a loss other than the nats, replaces ``logits_to_gradient``; called for chunk after chunk.
    """
    to_gradient = to_gradient or logits_to_gradient
    grad_hidden, grad_weight, grad_bias = gradients
    low = product_dtype(weight)
    nats = []
    with torch.autocast(hidden.device.type, enabled=False):
        low_weight, low_bias = weight.to(low), bias.to(low)
        for part, part_targets, grad_part in zip(
            *(x.split(chunk) for x in (hidden, targets, grad_hidden)), strict=True
        ):
            part = part.to(low)
            logits = product(part, low_weight.t(), low_bias)  # (chunk, V)
            nats.append(to_gradient(logits, part_targets).sum())
            grad_part += product(logits, low_weight)
            add_over_rows(grad_weight, logits, part)
            grad_bias += column_sums(logits, bias.dtype)
            del logits  # before the next chunk's are made
    return torch.stack(nats).sum()


def logits_to_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Overwrite (N, V) ``logits`` with softmax − onehot, zero in ignored rows; returns the nats of each row, (N,)."""
    exact = torch.float64 if logits.dtype == torch.float64 else torch.float32
    ignored = targets == IGNORED
    index = targets.masked_fill(ignored, 0).unsqueeze(1)  # (N, 1)
    rows_at_once = ROWS_AT_ONCE if logits.device.type == "cpu" else max(1, len(logits))
    nats = []
    for start in range(0, max(1, len(logits)), rows_at_once):  # once even if there is no row
        block = logits[start : start + rows_at_once]
        chosen = block.gather(1, index[start : start + rows_at_once]).to(exact)
        behind = block.amax(1, keepdim=True).to(exact) - chosen
        probabilities = torch.softmax(block, dim=1, dtype=exact)
        # from the likeliest type, whose probability never vanishes, unlike the target's
        nats.append(behind - probabilities.amax(1, keepdim=True).log_())
        block.copy_(probabilities)
    # scatter_add_ would copy all of them to float32 and back
    logits[torch.arange(len(logits), device=logits.device), index[:, 0]] -= 1
    if logits.device.type != "cpu" or ignored.any():  # on a GPU, checking would cost more than filling
        logits.masked_fill_(ignored.unsqueeze(1), 0)
    return torch.cat(nats).squeeze(1).masked_fill(ignored, 0)
