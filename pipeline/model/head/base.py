"""What every head offers. Letters: N = T·B tokens, H hidden, V vocabulary."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from pipeline.model.token_ids import as_int64


class Head(nn.Module, ABC):
    """Hidden vectors → log-probabilities of V types, up to a constant, or the nats of given targets.

    At most about ``most_logits`` logits exist at a time, by default as many as the device takes with ease.
    """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """(…, H) → (…, V), at least float32."""

    def loss(self, hidden: Tensor, targets: Tensor, *, most_logits: int | None = None) -> Tensor:
        """(T, B, H), (T, B) → summed nats, float32 (float64 where the model is); targets of −100 do not count."""
        rows, flat = hidden.reshape(-1, hidden.shape[-1]), as_int64(targets).reshape(-1)  # (N, H), (N,)
        if not torch.is_grad_enabled():
            return self._token_nats(rows, flat, most_logits).sum()
        return self._loss(rows, flat, most_logits)

    def token_nats(self, hidden: Tensor, targets: Tensor, *, most_logits: int | None = None) -> Tensor:
        """(T, B, H), (T, B) → nats of each target (T, B), 0 where it is −100; without gradient, in chunks as loss."""
        rows, flat = hidden.reshape(-1, hidden.shape[-1]), as_int64(targets).reshape(-1)  # (N, H), (N,)
        with torch.no_grad():
            return self._token_nats(rows, flat, most_logits).view(targets.shape)

    @abstractmethod
    def reset_parameters(self) -> None:
        """Matrices uniform in ±1/√(their input's size), biases of types zero, from torch's generator."""

    @abstractmethod
    def _loss(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> Tensor:
        """(N, H), (N,) → summed nats, with every parameter in its graph whatever the targets are."""

    @abstractmethod
    def _token_nats(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> Tensor:
        """(N, H), (N,) → (N,) nats, where nobody asks for a gradient."""
