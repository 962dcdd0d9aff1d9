"""The loss of a model that is taught by another one (Hinton, Vinyals & Dean 2015, "Distilling the Knowledge …").

For each token it is (1 − w) · −ln p(target) + w · τ² · KL(q ‖ p), where w is the weight, and q and p are the teacher's
and the model's distributions at temperature τ: softmax(logits ÷ τ). The gradient of KL with respect to the logits
shrinks as 1/τ², so the factor τ² keeps the shares of both terms unchanged when τ changes.

If only the k likeliest types of the teacher are known, all others count as one outcome with the remaining probability:
KL is then over k + 1 outcomes. This is never more than the full KL, and equals it if k = V; how the model divides its
probability among the others is left to the model. With q_r and p_r the mass of the others in q and p, the gradient with
respect to the logits is p − q for the k, and p · (1 − q_r ÷ p_r) for each of the others, divided by τ.
Letters: T time, B streams, N = T·B tokens, k types, H hidden, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.model.head.cross_entropy import IGNORED, ROWS_AT_ONCE, add_gradients, scaled_once

# keeps finite the logarithm of a mass that has vanished in float32
TINY = 1e-37


class Distilled(NamedTuple):
    """Sums over the targets that count."""

    loss: Tensor  # what is minimised
    nats: Tensor  # −ln p(target), without gradient
    divergence: Tensor  # KL(q ‖ p), in nats at the temperature, without gradient


class Likeliest(NamedTuple):
    """What is known of the teacher's distributions for n tokens: k types each, or all V in their order."""

    types: Tensor | None  # (n, k) int64; None: all of them
    log_q: Tensor  # (n, k) or (n, V) ln q


@dataclass(frozen=True)
class SoftTargets(ABC):
    """A teacher's distributions for (T, B) tokens, and how much they count."""

    weight: float
    temperature: float
    vocab_size: int

    @abstractmethod
    def select(self, columns: slice) -> SoftTargets:
        """Return those of some streams."""

    @abstractmethod
    def of(self, rows: slice) -> Likeliest:
        """Return those of some of the N tokens, in the order of time."""


@dataclass(frozen=True)
class TopTargets(SoftTargets):
    """The likeliest types only."""

    types: Tensor  # (T, B, k)
    log_q: Tensor  # (T, B, k)

    def select(self, columns: slice) -> TopTargets:
        return replace(self, types=self.types[:, columns], log_q=self.log_q[:, columns])

    def of(self, rows: slice) -> Likeliest:
        return Likeliest(self.types.flatten(0, 1)[rows].long(), self.log_q.flatten(0, 1)[rows])


@dataclass(frozen=True)
class WholeTargets(SoftTargets):
    """Whole distributions, computed from the teacher's hidden vectors a chunk at a time: not all exist at once."""

    hidden: Tensor  # (T, B, H) of the teacher
    logits: Callable[[Tensor], Tensor]  # (n, H) → (n, V)

    def select(self, columns: slice) -> WholeTargets:
        return replace(self, hidden=self.hidden[:, columns])

    def of(self, rows: slice) -> Likeliest:
        with torch.no_grad():
            return Likeliest(None, (self.logits(self.hidden.flatten(0, 1)[rows]) / self.temperature).log_softmax(-1))


def log_masses(log_q: Tensor) -> tuple[Tensor, Tensor]:
    """(n, k) ln q → the same, and the (n, 1) mass of all other types; a sum that rounding put above 1 is made 1."""
    total = log_q.exp().sum(-1, keepdim=True)
    return log_q - total.clamp(min=1).log(), (1 - total).clamp(min=0)


def mixed_nats(logits: Tensor, targets: Tensor, taught: Likeliest, soft: SoftTargets) -> tuple[Tensor, Tensor]:
    """(n, V) logits, (n,) targets → (n,) nats and (n,) divergences, 0 where the target is −100; differentiable."""
    ignored = targets == IGNORED
    log_p = logits.log_softmax(-1)
    nats = -log_p.gather(1, targets.masked_fill(ignored, 0).unsqueeze(1)).squeeze(1)
    if soft.temperature != 1:
        log_p = (logits / soft.temperature).log_softmax(-1)
    log_q = taught.log_q.to(log_p.dtype)
    if taught.types is None or taught.types.shape[1] == log_p.shape[1]:
        chosen = log_p if taught.types is None else log_p.gather(1, taught.types)
        divergence = (log_q.exp() * (log_q - chosen)).sum(-1)
    else:
        log_q, rest_q = log_masses(log_q)
        chosen = log_p.gather(1, taught.types)
        rest_p = log_p.exp().scatter(1, taught.types, 0).sum(-1, keepdim=True)
        rest = torch.xlogy(rest_q, rest_q) - torch.where(rest_q > 0, rest_q * rest_p.clamp(min=TINY).log(), 0)
        divergence = (log_q.exp() * (log_q - chosen)).sum(-1) + rest.squeeze(1)
    return nats.masked_fill(ignored, 0), divergence.masked_fill(ignored, 0)


class ToMixedGradient:
    """Overwrites chunks of logits, one after another, with the gradient of the loss, as ``logits_to_gradient`` does.

    Meanwhile ``divergence`` accumulates the sum of the divergences.
    """

    def __init__(self, soft: SoftTargets) -> None:
        self.soft = soft
        self.num_done = 0
        self.divergence: Tensor | float = 0.0

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(n, V), (n,) of the next n tokens → (n,) nats."""
        rows_at_once = ROWS_AT_ONCE if logits.device.type == "cpu" else max(1, len(logits))
        first, self.num_done = self.num_done, self.num_done + len(logits)
        taught = self.soft.of(slice(first, self.num_done))
        parts = zip(logits.split(rows_at_once), targets.split(rows_at_once), strict=True)
        nats = []
        for number, (block, block_targets) in enumerate(parts):
            rows = slice(number * rows_at_once, number * rows_at_once + len(block))
            types = None if taught.types is None else taught.types[rows]
            found, divergences = self._block(block, block_targets, types, taught.log_q[rows])
            nats.append(found)
            self.divergence = self.divergence + divergences.sum()
        return torch.cat(nats) if nats else logits.new_zeros(0)

    def _block(self, block: Tensor, targets: Tensor, types: Tensor | None, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """Overwrite (n, V) of the (n,) ``targets``; returns their nats and divergences."""
        weight, temperature = self.soft.weight, self.soft.temperature
        exact = torch.float64 if block.dtype == torch.float64 else torch.float32
        log_q = log_q.to(exact)
        ignored = targets == IGNORED
        index = targets.masked_fill(ignored, 0).unsqueeze(1)  # (n, 1)
        largest = block.amax(1, keepdim=True).to(exact)
        behind = largest - block.gather(1, index).to(exact)
        probabilities = torch.softmax(block, dim=1, dtype=exact)
        nats = behind - probabilities.amax(1, keepdim=True).log_()
        tempered = hard = probabilities  # at temperature 1 one softmax serves both terms
        if temperature != 1:
            tempered, hard = torch.softmax(block.to(exact) / temperature, dim=1), probabilities.mul_(1 - weight)
        log_total = largest / temperature - tempered.amax(1, keepdim=True).log_()  # (n, 1) ln Σ exp(logits ÷ τ)
        if types is None:
            divergence = (log_q.exp() * (log_q - block.to(exact) / temperature + log_total)).sum(1)
            gradient = tempered if temperature == 1 else tempered.mul_(weight * temperature).add_(hard)
            gradient.sub_(log_q.exp_(), alpha=weight * temperature)
        else:
            log_p = block.gather(1, types).to(exact) / temperature - log_total  # (n, k)
            chosen = tempered.gather(1, types)
            if types.shape[1] == block.shape[1]:
                rest_q = rest_p = torch.zeros_like(log_total)
            else:
                log_q, rest_q = log_masses(log_q)
                rest_p = tempered.scatter_(1, types, 0).sum(1, keepdim=True)  # (n, 1)
            rest = torch.xlogy(rest_q, rest_q) - torch.where(rest_q > 0, rest_q * rest_p.clamp(min=TINY).log(), 0)
            q = log_q.exp()
            divergence = (q * (log_q - log_p)).sum(1) + rest.squeeze(1)
            share = rest_q / rest_p.clamp(min=TINY)  # times p of one of the others, at most rest_q
            if temperature == 1:
                gradient = tempered.mul_(1 - weight * share)
                gradient.scatter_(1, types, chosen - weight * q)
            else:
                gradient = tempered.mul_(weight * temperature * (1 - share))
                gradient.scatter_(1, types, weight * temperature * (chosen - q)).add_(hard)
        gradient.scatter_add_(1, index, gradient.new_full(index.shape, weight - 1))
        if ignored.any() or block.device.type != "cpu":  # on a GPU, checking would cost more than filling
            gradient.masked_fill_(ignored.unsqueeze(1), 0)
        block.copy_(gradient)
        return nats.squeeze(1).masked_fill(ignored, 0), divergence.masked_fill(ignored, 0)


class DistilledCrossEntropy(torch.autograd.Function):
    """The summed loss of a softmax over (N, H) · (V, H)ᵀ + (V,); its gradients are computed on the way forward.

    Returns the loss, the nats and the divergence; only the first has a gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, soft: SoftTargets, chunk: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.gradients = tuple(torch.zeros_like(part) for part in (hidden, weight, bias))
        to_gradient = ToMixedGradient(soft)
        nats = add_gradients(ctx.gradients, hidden, weight, bias, targets, chunk=chunk, to_gradient=to_gradient)
        divergence = nats.new_zeros(()) + to_gradient.divergence
        loss = (1 - soft.weight) * nats + soft.weight * soft.temperature**2 * divergence
        ctx.mark_non_differentiable(nats, divergence)
        return loss, nats, divergence

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
        return *scaled_once(ctx, grad_loss), None, None, None
