"""The embedding's gradient is kept as the rows of those types that occur in a window.

A dense gradient of V types is filled, exchanged, measured and subtracted whole, though most of it is zero if a window
has far fewer tokens than there are types. Only plain SGD leaves the other rows as they are, so only with it are the two
the same. Letters: N positions of a window on a rank, M the most on any, R rows, E embedding, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.config import Config
from pipeline.config.schema import rows_are_exact
from pipeline.model.language_model import LanguageModel

# as measured (benchmarks/communication.py): types per token of an update above which rows pay
PAYS_FROM = 8


def chosen(config: Config, vocab_size: int) -> bool:
    """Return whether the embedding's gradient is to be taken as rows."""
    wanted = config.train.embedding_gradients
    if wanted == "auto":
        pays = vocab_size >= PAYS_FROM * config.train.batch_size * config.train.bptt
        return pays and rows_are_exact(config)
    return wanted == "rows"


class EmbeddingRows:
    """Holds the gradient of ``model``'s embedding between a backward pass and the update."""

    def __init__(self, model: LanguageModel) -> None:
        model.embedding.sparse = True
        self.weight = model.embedding.weight
        self.rows = self.values = torch.empty(0)

    def take(self, most: int) -> None:
        """Take the gradient away from the weight; its (R, E) ``values`` over all ranks may then be clipped in place.

        Args:
            most: M, the same on all ranks.
        """
        gradient = self.weight.grad
        assert gradient is not None
        self.weight.grad = None
        self.rows, self.values = summed(gradient._indices()[0], gradient._values())
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self.rows, self.values = summed(*mean_over_ranks(self.rows, self.values, most))

    def update(self, *, lr: float, divisor: Tensor | float, finite: Tensor) -> None:
        """weight ← weight − lr · values ÷ divisor, or no change if not ``finite``."""
        with torch.no_grad():
            values = (self.values / divisor).masked_fill_(~finite, 0.0)
            self.weight.index_add_(0, self.rows, values, alpha=-lr)


def summed(rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Add up the (N, E) gradients of equal types among (N,) ``rows``; the N − R places left over are zeros for type 0.

    As no shape depends on how many types there are, nothing waits for a GPU. A type's gradients are added in the order
    in which they occur.
    """
    rows, order = torch.sort(rows, stable=True)
    place = torch.zeros_like(rows)
    torch.cumsum(rows[1:] != rows[:-1], 0, out=place[1:])  # (N,), 0 0 1 2 2 …
    total = torch.zeros_like(values).index_add_(0, place, values[order])
    return torch.zeros_like(rows).scatter_(0, place, rows), total


def mean_over_ranks(rows: Tensor, values: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Gather the rows of all ranks, in their order, as (W·M,) and (W·M, E), the values divided by W."""
    world_size = dist.get_world_size()
    all_rows = rows.new_zeros(world_size, most)
    all_values = values.new_zeros(world_size, most, values.shape[1])
    own_rows, own_values = rows.new_zeros(most), values.new_zeros(most, values.shape[1])
    own_rows[: len(rows)] = rows
    torch.div(values, world_size, out=own_values[: len(values)])
    dist.all_gather(list(all_rows), own_rows)
    dist.all_gather(list(all_values), own_values)
    return all_rows.flatten(), all_values.flatten(0, 1)
