"""The mixture of softmaxes of Yang, Dai, Salakhutdinov & Cohen 2018, "Breaking the Softmax Bottleneck".

p(type) = Σ over experts k of π_k · softmax_k(type), with the same output matrix for all. The gradient of −log p with
respect to the logits of expert k is its share of p(target) times (softmax_k − onehot): the fused cross-entropy with a
factor per row. Letters: N = T·B tokens, K experts, H hidden, E embedding, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.model.cpu.products import add_over_rows, linear, product, product_dtype
from pipeline.model.head.base import Head
from pipeline.model.head.cross_entropy import (
    IGNORED,
    linear_logits,
    linear_token_nats,
    logits_to_gradient,
    rows_at_a_time,
    scaled_once,
    spread,
)
from pipeline.model.precision import autocast_where_native


class MixtureOfSoftmaxes(Head):
    """``num_experts`` softmaxes, each of a vector of its own (E), mixed with weights that depend on the context."""

    def __init__(
        self,
        hidden_size: int,
        embedding_size: int,
        vocab_size: int,
        *,
        num_experts: int,
        tied_to: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.experts = nn.Linear(hidden_size, num_experts * embedding_size)
        self.prior = nn.Linear(hidden_size, num_experts, bias=False)
        self.weight = tied_to if tied_to is not None else nn.Parameter(torch.empty(vocab_size, embedding_size))
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def logits(self, hidden: Tensor) -> Tensor:
        vectors, log_prior = self._mixed(hidden)
        total = None
        for vector, log_weight in zip(vectors.unbind(-2), log_prior.unbind(-1), strict=True):
            part = linear_logits(vector, self.weight, self.bias).log_softmax(-1) + log_weight.unsqueeze(-1)  # (…, V)
            total = part if total is None else torch.logaddexp(total, part)
        assert total is not None
        return total

    def reset_parameters(self) -> None:
        spread(self.weight)

    def _mixed(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(…, H) → the vector of each expert (…, K, E), log π (…, K)."""
        experts = linear(hidden, self.experts.weight, self.experts.bias)
        vectors = torch.tanh(experts).unflatten(-1, (self.num_experts, -1))
        prior = linear(hidden, self.prior.weight)
        return vectors, (prior if prior.dtype == torch.float64 else prior.float()).log_softmax(-1)

    def _loss(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> Tensor:
        vectors, log_prior = self._mixed(rows)
        chunk = rows_at_a_time(self.num_experts * len(self.bias), rows.device, most_logits)
        with autocast_where_native(rows.device.type):
            nats: Tensor = MixtureCrossEntropy.apply(vectors, log_prior, self.weight, self.bias, targets, chunk)
        return nats

    def _token_nats(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> Tensor:
        vectors, log_prior = self._mixed(rows)
        of_experts = linear_token_nats(
            vectors.flatten(0, 1),
            self.weight,
            self.bias,
            targets.repeat_interleave(self.num_experts),
            most_logits=most_logits,
        )  # (N·K,)
        nats = -(log_prior - of_experts.view_as(log_prior)).logsumexp(-1)
        return nats.masked_fill(targets == IGNORED, 0)


class MixtureCrossEntropy(torch.autograd.Function):
    """Σ over N of −log Σ_k π_k softmax_k(target), ``chunk`` tokens at a time.

    Its gradients are computed on the way forward, while the logits exist, up to the incoming factor.
    """

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, log_prior: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, chunk: int
    ) -> Tensor:
        low = product_dtype(weight)
        gradients = tuple(torch.zeros_like(part) for part in (vectors, log_prior, weight, bias))
        grad_vectors, grad_log_prior, grad_weight, grad_bias = gradients
        num_experts = vectors.shape[1]
        total = log_prior.new_zeros(())
        with torch.autocast(vectors.device.type, enabled=False):
            low_weight, low_bias = weight.to(low), bias.to(low)
            for start in range(0, len(vectors), chunk):
                rows = slice(start, start + chunk)
                part = vectors[rows].flatten(0, 1).to(low)  # (chunk · K, E)
                logits = product(part, low_weight.t(), low_bias)  # (chunk · K, V)
                nats = logits_to_gradient(logits, targets[rows].repeat_interleave(num_experts))
                joint = log_prior[rows] - nats.view(-1, num_experts)  # (chunk, K): log π_k softmax_k(target)
                ignored = (targets[rows] == IGNORED).unsqueeze(1)
                log_p = joint.logsumexp(1, keepdim=True).masked_fill(ignored, 0)
                share = (joint - log_p).exp()  # (chunk, K), of the target's probability
                total -= log_p.sum()
                grad_log_prior[rows] = share.masked_fill(ignored, 0).neg()
                factor = share.flatten().to(low)  # (chunk · K,)
                grad_vectors[rows] = (product(logits, low_weight) * factor.unsqueeze(1)).view_as(grad_vectors[rows])
                add_over_rows(grad_weight, logits, part * factor.unsqueeze(1))
                grad_bias += factor @ logits
                del logits  # before the next chunk's are made
        ctx.gradients = gradients
        return total

    @staticmethod
    def backward(ctx: Any, grad_nats: Tensor) -> tuple[Tensor | None, ...]:
        return *scaled_once(ctx, grad_nats), None, None
