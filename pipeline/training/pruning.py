"""Pruning sets the smallest weights to zero, gradually while training (Zhu & Gupta 2017) or at once.

The sparsity rises with the cube of the time that is left. A weight that is zero stays zero, since it is the smallest.
Only matrices are pruned: biases and norms are few, and each of them matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.config import PruneConfig
from pipeline.model import foreach


def sparsity_at(config: PruneConfig, step: int, total_steps: int) -> float:
    """Return the sparsity after ``step`` of ``total_steps`` updates: s (1 − (1 − t)³), t from 0 to 1."""
    begin, end = config.begin_fraction * total_steps, config.end_fraction * total_steps
    if step < begin:
        return 0.0
    done = min(1.0, (step - begin) / (end - begin)) if end > begin else 1.0
    return config.sparsity * (1 - (1 - done) ** 3)


def last_renewal(config: PruneConfig, step: int, total_steps: int) -> int:
    """Return the update, up to ``step`` of ``total_steps``, after which the masks were renewed last; 0: none."""
    return step if step >= total_steps else step - step % config.every_steps


def magnitude_masks(matrices: Sequence[Tensor], sparsity: float, scope: str) -> list[Tensor]:
    """Return masks that are false for the smallest numbers, a share of ``sparsity`` of them.

    ``scope``: the smallest of ``all`` matrices together, or of each ``matrix``.
    """
    magnitudes = [matrix.detach().abs() for matrix in matrices]
    if scope == "all":
        highest = _threshold(torch.cat([part.flatten() for part in magnitudes]), sparsity)
        return [part > highest for part in magnitudes]
    return [part > _threshold(part.flatten(), sparsity) for part in magnitudes]


def _threshold(values: Tensor, sparsity: float) -> Tensor:
    """Return the largest number that is pruned; −1, which is below all magnitudes, if none is."""
    number = round(sparsity * len(values))
    return values.kthvalue(number).values if number else values.new_tensor(-1.0)


def zeros_of(matrices: Sequence[Tensor], config: PruneConfig) -> tuple[float, bool]:
    """Return the share of the entries of ``matrices`` that are zero, and whether they are as many as in the end."""
    sizes = [matrix.numel() for matrix in matrices]
    number = sum(int((matrix == 0).sum()) for matrix in matrices)
    parts = sizes if config.scope == "matrix" else [sum(sizes)]
    return number / sum(sizes), number >= sum(round(config.sparsity * size) for size in parts)


class Pruning:
    """Makes the masks of a run when they are due, and keeps the weights that they leave out at zero."""

    def __init__(self, config: PruneConfig, parameters: Iterable[Tensor], total_steps: int) -> None:
        self.config, self.total_steps = config, total_steps
        self.matrices = {index: each.detach() for index, each in enumerate(parameters) if each.dim() > 1}
        self.masks: list[Tensor] = []  # empty: not begun

    def updated(self, step: int, means: Sequence[Tensor]) -> None:
        """Renew the masks if that is due after update number ``step`` (from 1), and apply them.

        ``means``: running means of all parameters, or none; what is pruned is set to zero in them as well.
        """
        if not self.config.sparsity:
            return
        matrices = list(self.matrices.values())
        sparsity = sparsity_at(self.config, step, self.total_steps)
        is_due = step == last_renewal(self.config, step, self.total_steps)
        if is_due and sparsity:
            self.masks = magnitude_masks(matrices, sparsity, self.config.scope)
            for index, mask in zip(self.matrices, self.masks, strict=True):
                if means:
                    means[index].mul_(mask)
        if self.masks:
            foreach.mul_(matrices, self.masks)

    def state_dict(self) -> dict[str, Any]:
        return {"masks": self.masks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.masks = [mask.clone() for mask in state["masks"]]
