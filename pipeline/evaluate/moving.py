"""Weights that move a little after every segment of a text (dynamic evaluation), by as few passes as can be.

θ ← θ + decay (θ₀ − θ) − lr · scale · g reads five numbers for one that it writes, for all of a model, and takes longer
than the gradients of a short segment. So it is done a part at a time, which stays in the processor's cache from one
operation to the next, and of an embedding only for the rows that are read. Letters: V vocabulary, E embedding,
N tokens of a segment, R types among them.
"""

from __future__ import annotations

import torch
from torch import Tensor

# of each tensor at a time on a CPU: five of that size stay in its cache
NUMBERS_AT_ONCE = 2**14


class MovedWeight:
    """A weight θ that moves by θ ← θ + decay (θ₀ − θ) − lr · scale · g.

    Args:
        weight: moved in place; as it is now, it is θ₀.
        decay: of all numbers of the weight, or of each.
        scale: of each number; None: 1.
    """

    def __init__(self, weight: Tensor, lr: float, decay: float | Tensor, scale: Tensor | None) -> None:
        self.weight, self.trained = weight.detach(), weight.detach().clone()
        self.lr, self.decay, self.scale = lr, decay, scale
        self.rows_at_once = len(weight) if weight.is_cuda else max(1, NUMBERS_AT_ONCE // weight[:1].numel())

    def move(self, gradient: Tensor) -> None:
        """Move once, against ``gradient``."""
        for start in range(0, len(self.weight), self.rows_at_once):
            rows = slice(start, start + self.rows_at_once)
            self._move(self.weight[rows], gradient[rows], rows)

    def _move(self, weight: Tensor, gradient: Tensor, rows: slice | Tensor) -> None:
        """Move ``weight``, which are ``rows`` of the whole."""
        decay = self.decay[rows] if isinstance(self.decay, Tensor) else self.decay
        weight.lerp_(self.trained[rows], decay)
        if self.scale is None:
            weight.sub_(gradient, alpha=self.lr)
        else:
            weight.addcmul_(gradient, self.scale[rows], value=-self.lr)


class MovedRows(MovedWeight):
    """An embedding (V, E), of which only the rows that are read are as they are to be.

    A row that no gradient reaches goes back towards θ₀ by the same factors at every step: n steps at once are the n-th
    power of 1 − decay.
    """

    def __init__(self, weight: Tensor, lr: float, decay: float | Tensor, scale: Tensor | None) -> None:
        super().__init__(weight, lr, decay, scale)
        self.num_steps = 0
        self.seen_steps = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)  # of each row

    def catch_up(self, rows: Tensor) -> None:
        """Bring (N,) ``rows``, some perhaps repeated, up to date."""
        decay = self.decay[rows] if isinstance(self.decay, Tensor) else self.decay
        missed = (self.num_steps - self.seen_steps[rows]).unsqueeze(1).to(self.weight.dtype)  # (N, 1)
        trained = self.trained[rows]  # (N, E)
        self.weight[rows] = trained + (self.weight[rows] - trained) * (1 - decay) ** missed
        self.seen_steps[rows] = self.num_steps

    def move(self, gradient: Tensor) -> None:
        """Move once, against a sparse ``gradient`` of rows that are up to date."""
        rows, values = rows_of(gradient)
        self.num_steps += 1
        weight = self.weight[rows]
        self._move(weight, values, rows)
        self.weight[rows] = weight
        self.seen_steps[rows] = self.num_steps


def rows_of(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (R,) of a sparse gradient, each once, and their gradients (R, E)."""
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()
