"""Weights that move a little after every segment of a text (dynamic evaluation).

θ ← θ + decay (θ₀ − θ) − lr · scale · g, in two passes over a weight; in an embedding only for the rows that are read.
Letters: V vocabulary, E embedding, N tokens of a segment, R types among them.
"""

from __future__ import annotations

import torch
from torch import Tensor


class MovedWeight:
    """A weight θ that moves by θ ← θ + decay (θ₀ − θ) − lr · scale · g.

    Args:
        weight: moved in place; its current value is θ₀.
        decay: one number for the whole weight, or one per element.
        scale: one per element; None: 1.
    """

    def __init__(self, weight: Tensor, lr: float, decay: float | Tensor, scale: Tensor | None) -> None:
        self.weight, self.trained = weight.detach(), weight.detach().clone()
        self.lr, self.decay, self.scale = lr, decay, scale

    def move(self, gradient: Tensor) -> None:
        """Move once, against ``gradient``."""
        moved(self.weight, self.trained, gradient, self.lr, self.decay, self.scale)


class MovedRows(MovedWeight):
    """An embedding (V, E), of which only the rows that are read are kept up to date.

    A row that gets no gradient decays towards θ₀ by the same factors at every step: n steps at once are the n-th power
    of 1 − decay.
    """

    def __init__(self, weight: Tensor, lr: float, decay: float | Tensor, scale: Tensor | None) -> None:
        super().__init__(weight, lr, decay, scale)
        self.num_steps = 0
        self.seen_steps = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)  # of each row

    def _decay_of(self, rows: Tensor) -> float | Tensor:
        return self.decay[rows] if isinstance(self.decay, Tensor) else self.decay

    def catch_up(self, rows: Tensor) -> None:
        """Bring (N,) ``rows``, which can repeat, up to date."""
        missed = (self.num_steps - self.seen_steps[rows]).unsqueeze(1).to(self.weight.dtype)  # (N, 1)
        trained = self.trained[rows]  # (N, E)
        self.weight[rows] = trained + (self.weight[rows] - trained) * (1 - self._decay_of(rows)) ** missed
        self.seen_steps[rows] = self.num_steps

    def move(self, gradient: Tensor) -> None:
        """Move once, against a sparse ``gradient`` of rows that are up to date."""
        rows, values = rows_of(gradient)
        self.num_steps += 1
        scale = None if self.scale is None else self.scale[rows]
        weight = self.weight[rows]
        self.weight[rows] = moved(weight, self.trained[rows], values, self.lr, self._decay_of(rows), scale)
        self.seen_steps[rows] = self.num_steps


def moved(
    weight: Tensor, trained: Tensor, gradient: Tensor, lr: float, decay: float | Tensor, scale: Tensor | None
) -> Tensor:
    """Move ``weight`` in place and return it."""
    weight.lerp_(trained, decay)
    return weight.sub_(gradient, alpha=lr) if scale is None else weight.addcmul_(gradient, scale, value=-lr)


def rows_of(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows (R,) of a sparse gradient, each once, and their gradients (R, E)."""
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()
