"""Hidden vectors (T, B, H) in, nats or logits over the vocabulary out: the softmax with bias.

The loss joins the output product and cross-entropy in one autograd function, which turns the logits into their own
gradient where they lie: nothing else of size tokens × vocabulary is kept. Letters: N = T·B tokens, H hidden,
V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = -100
# rows of logits turned into probabilities at a time: a block stays in the cache
ROWS_AT_ONCE = 32


class Softmax(nn.Module):
    """A full softmax over V types, with bias; ``weight`` may be the embedding's (tied)."""

    def __init__(self, hidden_size: int, vocab_size: int, *, tied_to: Tensor | None = None) -> None:
        super().__init__()
        self.weight = tied_to if tied_to is not None else nn.Parameter(torch.empty(vocab_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, H) → (…, V), at least float32."""
        logits = F.linear(hidden, self.weight, self.bias)
        return logits if logits.dtype == torch.float64 else logits.float()

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """(T, B, H), (T, B) → summed nats, float32 (float64 where the model is); targets of −100 do not count."""
        rows = hidden.reshape(-1, hidden.shape[-1])  # (N, H)
        nats: Tensor = LinearCrossEntropy.apply(rows, self.weight, self.bias, targets.reshape(-1))
        return nats


class LinearCrossEntropy(torch.autograd.Function):
    """Σ over N of −log softmax(hidden · weightᵀ + bias)[target], with ∂/∂logits = softmax − onehot(target)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        device = hidden.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        with torch.autocast(device, enabled=False):
            hidden, low_weight = hidden.to(low), weight.to(low)
            logits = torch.addmm(bias.to(low), hidden, low_weight.t())  # (N, V)
            nats = _logits_to_gradient(logits, targets)
        ctx.save_for_backward(hidden, low_weight, logits)
        ctx.dtypes = weight.dtype, bias.dtype
        return nats

    @staticmethod
    def backward(ctx: Any, grad_nats: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, grad_logits = ctx.saved_tensors
        weight_dtype, bias_dtype = ctx.dtypes
        scale = grad_nats.to(hidden.dtype)
        # the incoming factor is applied to the (N, H) sides, never to anything of size N × V
        grad_hidden = (grad_logits @ weight) * scale if ctx.needs_input_grad[0] else None
        grad_weight = (grad_logits.t() @ (hidden * scale)).to(weight_dtype)
        grad_bias = (grad_logits.sum(0, dtype=bias_dtype)) * grad_nats
        return grad_hidden, grad_weight, grad_bias, None


def _logits_to_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Overwrite (N, V) ``logits`` with softmax − onehot, zero in ignored rows; returns the summed nats."""
    exact = torch.float64 if logits.dtype == torch.float64 else torch.float32
    ignored = targets == IGNORED
    index = targets.masked_fill(ignored, 0).unsqueeze(1)  # (N, 1)
    rows_at_once = ROWS_AT_ONCE if logits.device.type == "cpu" else len(logits)
    nats = []
    for start in range(0, len(logits), rows_at_once):
        block = logits[start : start + rows_at_once]
        chosen = index[start : start + rows_at_once]
        log_probabilities = torch.log_softmax(block, dim=-1, dtype=exact)
        nats.append(log_probabilities.gather(1, chosen).neg())
        torch.exp(log_probabilities, out=block)
    logits.scatter_add_(1, index, logits.new_full(index.shape, -1.0))
    if logits.device.type != "cpu" or ignored.any():  # on a GPU a look would cost more than the fill
        logits.masked_fill_(ignored.unsqueeze(1), 0)
    return torch.cat(nats).squeeze(1).masked_fill(ignored, 0).sum()
