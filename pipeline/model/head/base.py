"""The interface of every head. Letters: N = T·B tokens, H hidden, V vocabulary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipeline.model.head.cross_entropy import IGNORED, rows_at_a_time
from pipeline.model.head.distillation import Distilled, Likeliest, SoftTargets, mixed_nats
from pipeline.model.token_ids import as_int64

# rows whose distributions are computed at a time on a CPU, so that they stay in the cache
ROWS_AT_ONCE = 128
# a sum of probabilities below this loses digits in float32, so it is computed from logarithms
SMALLEST_SUM = 1e-30


@dataclass(frozen=True)
class Distribution:
    """Figures of the distribution of every token, in nats."""

    nats: Tensor  # (T, B) −ln p of the target, 0 where it is −100
    entropy: Tensor  # (T, B)
    log_masses: Tensor  # (T, B, G) ln P of each group of types
    ranks: Tensor | None = None  # (T, B) 1 + the number of types likelier than the target, if asked for


class Head(nn.Module, ABC):
    """Turns hidden vectors into log-probabilities of V types, up to a constant, or into the nats of given targets.

    At most about ``most_logits`` logits exist at a time, by default as many as suit the device.
    """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Return the (…, V) logits of (…, H), at least in float32."""

    def loss(self, hidden: Tensor, targets: Tensor, *, most_logits: int | None = None) -> Tensor:
        """Sum the nats of (T, B) targets after (T, B, H), at least in float32; targets of −100 do not count."""
        rows, flat = hidden.reshape(-1, hidden.shape[-1]), as_int64(targets).reshape(-1)  # (N, H), (N,)
        if not torch.is_grad_enabled():
            return self._token_nats(rows, flat, most_logits).sum()
        return self._loss(rows, flat, most_logits)

    def distill(
        self, hidden: Tensor, targets: Tensor, soft: SoftTargets, *, most_logits: int | None = None
    ) -> Distilled:
        """Sum over (T, B) targets after (T, B, H) the loss that mixes their nats with the divergence from a teacher.

        With a weight of 0 the loss is that of ``loss``, bit for bit, and the divergence is only measured.
        """
        rows, flat = hidden.reshape(-1, hidden.shape[-1]), as_int64(targets).reshape(-1)  # (N, H), (N,)
        if soft.weight:
            return self._distill(rows, flat, soft, most_logits)
        loss = self.loss(hidden, targets, most_logits=most_logits)
        with torch.no_grad():
            measured = Head._distill(self, rows, flat, soft, most_logits)
        return Distilled(loss, loss.detach(), measured.divergence)

    def loss_and_nats(
        self, hidden: Tensor, targets: Tensor, *, most_logits: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return ``loss``, with a gradient, and ``token_nats``, without one."""
        rows, flat = hidden.reshape(-1, hidden.shape[-1]), as_int64(targets).reshape(-1)  # (N, H), (N,)
        loss, nats = self._loss_and_nats(rows, flat, most_logits)
        return loss, nats.view(targets.shape)

    def token_nats(self, hidden: Tensor, targets: Tensor, *, most_logits: int | None = None) -> Tensor:
        """Return the nats of each of (T, B) targets, 0 where it is −100; without gradients, in chunks like ``loss``."""
        rows, flat = hidden.reshape(-1, hidden.shape[-1]), as_int64(targets).reshape(-1)  # (N, H), (N,)
        with torch.no_grad():
            return self._token_nats(rows, flat, most_logits).view(targets.shape)

    def distribution(
        self, hidden: Tensor, targets: Tensor, groups: Tensor, *, ranks: bool = False, most_logits: int | None = None
    ) -> Distribution:
        """Return ``token_nats``, the entropy at each place and the probability of whole groups of types.

        Args:
            groups: (V, G) of the logits' dtype, 1 where a type is in a group, else 0; G may be 0.
            ranks: return the ranks of the targets, too.
        """
        rows, flat = hidden.reshape(-1, hidden.shape[-1]), as_int64(targets).reshape(-1)  # (N, H), (N,)
        # logits and probabilities exist side by side
        chunk = rows_at_a_time(2 * len(groups), rows.device, most_logits)
        if rows.device.type == "cpu":
            chunk = min(chunk, ROWS_AT_ONCE)
        parts, found_ranks = [], []
        with torch.no_grad():
            for part, part_targets in zip(rows.split(chunk), flat.split(chunk), strict=True):
                logits = self.logits(part)  # (n, V)
                with torch.autocast(rows.device.type, enabled=False):
                    parts.append(distribution_of(logits, part_targets, groups))
                    if ranks:
                        found_ranks.append(ranks_of(logits, part_targets))
        shape = targets.shape
        nats, entropy, log_masses = (torch.cat(columns).view(*shape, *columns[0].shape[1:])
                                     for columns in zip(*parts, strict=True))  # fmt: skip
        return Distribution(nats, entropy, log_masses, torch.cat(found_ranks).view(shape) if ranks else None)

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw matrices uniformly from ±1/√(their input's size) with torch's generator; set biases of types to zero."""

    @abstractmethod
    def _loss(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> Tensor:
        """Sum the nats of (N,) targets after (N, H), with every parameter in the graph whatever the targets are."""

    def _distill(self, rows: Tensor, targets: Tensor, soft: SoftTargets, most_logits: int | None) -> Distilled:
        """Do ``distill`` for (N,) targets after (N, H), from whole logits: a chunk at a time, recomputed for the
        gradients."""
        # logits, their logarithms, probabilities and gradients exist side by side
        chunk = rows_at_a_time(4 * soft.vocab_size, rows.device, most_logits)
        nats, divergences = [], []

        def of_part(part: Tensor, part_targets: Tensor, *taught: Tensor | None) -> tuple[Tensor, Tensor]:
            logits = self.logits(part)  # (n, V)
            with torch.autocast(rows.device.type, enabled=False):
                types, log_q = taught
                assert log_q is not None
                found = mixed_nats(logits, part_targets, Likeliest(types, log_q), soft)
                return found[0].sum(), found[1].sum()

        for start in range(0, max(1, len(rows)), chunk):
            part = slice(start, start + chunk)
            inputs = (rows[part], targets[part], *soft.of(part))
            if torch.is_grad_enabled():
                found = checkpoint(of_part, *inputs, use_reentrant=False, preserve_rng_state=False)
            else:
                found = of_part(*inputs)
            nats.append(found[0])
            divergences.append(found[1])
        total, divergence = torch.stack(nats).sum(), torch.stack(divergences).sum()
        loss = (1 - soft.weight) * total + soft.weight * soft.temperature**2 * divergence
        return Distilled(loss, total.detach(), divergence.detach())

    def _loss_and_nats(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> tuple[Tensor, Tensor]:
        """Return ``_loss`` and ``_token_nats``; a head that gets both from the same logits overrides this."""
        with torch.no_grad():
            nats = self._token_nats(rows, targets, most_logits)
        return self._loss(rows, targets, most_logits), nats

    @abstractmethod
    def _token_nats(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> Tensor:
        """Return the nats of each of (N,) targets after (N, H), without gradients."""


def ranks_of(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, V), (N,) → (N,) int64: 1 + the number of types likelier than the target; ties share a rank."""
    chosen = logits.gather(1, targets.clamp(min=0).unsqueeze(1))  # (N, 1)
    return (logits > chosen).sum(-1) + 1


def distribution_of(logits: Tensor, targets: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, V), (N,), (V, G) → nats (N,), entropies (N,), ln P of each group (N, G): see ``Head.distribution``."""
    probabilities = logits.softmax(-1)  # (N, V)
    # ln Σ exp, from the likeliest type, whose probability never vanishes
    total = logits.amax(-1) - probabilities.amax(-1).log()  # (N,)
    ignored = targets == IGNORED
    chosen = logits.gather(1, targets.masked_fill(ignored, 0).unsqueeze(1)).squeeze(1)
    # a product with few columns takes a third of the time on a CPU this way round
    masses = (groups.t() @ probabilities.t()).t()  # (N, G)
    log_masses = masses.log()
    is_small = (masses < SMALLEST_SUM) & groups.any(0)
    for row, group in is_small.nonzero().tolist():
        log_masses[row, group] = logits[row, groups[:, group] > 0].logsumexp(0) - total[row]
    mean = probabilities.mul_(logits).sum(-1)  # (N,) Σ p · logit
    return (total - chosen).masked_fill(ignored, 0), (total - mean).clamp_(min=0), log_masses
