"""The interface of every head. Letters: N = T·B tokens, H hidden, V vocabulary."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from pipeline.model.token_ids import as_int64


class Head(nn.Module, ABC):
    """Turns hidden vectors into log-probabilities of V types, up to a constant, or into the nats of given targets.

    At most about ``most_logits`` logits exist at a time, by default as many as the device takes with ease.
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

    def token_nats(self, hidden: Tensor, targets: Tensor, *, most_logits: int | None = None) -> Tensor:
        """Return the nats of each of (T, B) targets, 0 where it is −100; without gradients, in chunks as ``loss``."""
        rows, flat = hidden.reshape(-1, hidden.shape[-1]), as_int64(targets).reshape(-1)  # (N, H), (N,)
        with torch.no_grad():
            return self._token_nats(rows, flat, most_logits).view(targets.shape)

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw matrices uniformly from ±1/√(their input's size) by torch's generator; set biases of types to zero."""

    @abstractmethod
    def _loss(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> Tensor:
        """Sum the nats of (N,) targets after (N, H), with every parameter in the graph whatever the targets are."""

    @abstractmethod
    def _token_nats(self, rows: Tensor, targets: Tensor, most_logits: int | None) -> Tensor:
        """Return the nats of each of (N,) targets after (N, H), without gradients."""
