"""The full softmax with bias, tied or not. Letters: N = T·B tokens, H hidden, V vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.model.head.base import Head
from pipeline.model.head.cross_entropy import (
    linear_cross_entropy,
    linear_logits,
    linear_loss_and_nats,
    linear_token_nats,
    rows_at_a_time,
    spread,
)
from pipeline.model.head.distillation import Distilled, DistilledCrossEntropy, SoftTargets
from pipeline.model.precision import autocast_where_native


class Softmax(Head):
    """A full softmax over V types, with bias; ``weight`` may be the embedding's (tied)."""

    def __init__(self, hidden_size: int, vocab_size: int, *, tied_to: Tensor | None = None) -> None:
        super().__init__()
        self.weight = tied_to if tied_to is not None else nn.Parameter(torch.empty(vocab_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def logits(self, hidden: Tensor) -> Tensor:
        return linear_logits(hidden, self.weight, self.bias)

    def reset_parameters(self) -> None:
        spread(self.weight)

    def _loss(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> Tensor:
        return linear_cross_entropy(rows, self.weight, self.bias, targets, most_logits=most_logits)

    def _distill(self, rows: Tensor, targets: Tensor, soft: SoftTargets, most_logits: int | None) -> Distilled:
        # a chunk's logits, and the teacher's if all of them are used
        chunk = rows_at_a_time(2 * len(self.bias), rows.device, most_logits)
        with autocast_where_native(rows.device.type):
            sums = DistilledCrossEntropy.apply(rows, self.weight, self.bias, targets, soft, chunk)
        return Distilled(*sums)

    def _loss_and_nats(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> tuple[Tensor, Tensor]:
        return linear_loss_and_nats(rows, self.weight, self.bias, targets, most_logits=most_logits)

    def _token_nats(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> Tensor:
        return linear_token_nats(rows, self.weight, self.bias, targets, most_logits=most_logits)
