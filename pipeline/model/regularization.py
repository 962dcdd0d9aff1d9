"""The dropouts and penalties of Merity, Keskar & Socher 2018, AWD-LSTM.

Every mask of a window is a pure function of (seed, place): redrawn wherever it is needed, the same on every rank and
in every group of rows, so that nothing depends on how the streams are distributed.
Letters: T time, B streams, H hidden, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.seeds import mix

# places of masks; hidden and weight masks have one for each layer
EMBEDDING, INPUT, HIDDEN, WEIGHT, OUTPUT = range(5)

# masks are cut from random words of 64 bits, 16 bits per number
LEVELS = 2**16


@dataclass(frozen=True)
class Masks:
    """The masks of one window for ``rows`` of the ``batch_size`` streams of all ranks."""

    seed: int
    batch_size: int
    rows: range

    @classmethod
    def fresh(cls, batch_size: int) -> Masks:
        """Return the masks of a window of ``batch_size`` streams, seeded from torch's generator."""
        return cls(int(torch.randint(2**62, ())), batch_size, range(batch_size))

    def locked(self, values: Tensor, dropout: float, *, place: int, layer: int = 0) -> Tensor:
        """Drop the same numbers of a stream in (T, B, H) at every step (Gal & Ghahramani 2016)."""
        if not dropout:
            return values
        mask = self._draw((self.batch_size, values.shape[-1]), dropout, values, place, layer)
        return values * mask[self.rows.start : self.rows.stop]

    def embedding(self, embedded: Tensor, tokens: Tensor, dropout: float, *, vocab_size: int) -> Tensor:
        """Drop some types from (T, B, E) embeddings of ``tokens``, wherever they occur in the window."""
        if not dropout:
            return embedded
        mask = self._draw((vocab_size,), dropout, embedded, EMBEDDING, 0)
        return embedded * mask[tokens].unsqueeze(-1)

    def weight(self, weight: Tensor, dropout: float, *, layer: int) -> Tensor:
        """Drop some numbers of ``weight`` for the whole window (DropConnect, Wan et al. 2013)."""
        return weight * self._draw(tuple(weight.shape), dropout, weight, WEIGHT, layer) if dropout else weight

    def generator(self, device: torch.device, place: int, layer: int) -> torch.Generator:
        """Return the generator, still to be seeded, that draws one mask; here a new one."""
        return torch.Generator(device)

    def _draw(self, shape: tuple[int, ...], dropout: float, like: Tensor, place: int, layer: int) -> Tensor:
        """Draw 0 with probability p = ``dropout``, rounded to 1/65,536, else 1/(1 − p)."""
        generator = self.generator(like.device, place, layer)
        generator.manual_seed(mix(self.seed, place, layer))
        size = torch.Size(shape).numel()
        words = torch.empty(-(-size // 4), dtype=torch.int64, device=like.device)
        words.random_(torch.iinfo(torch.int64).min, None, generator=generator)
        num_dropped = min(round(dropout * LEVELS), LEVELS - 1)  # of the levels
        kept = words.view(torch.int16)[:size].view(shape) >= num_dropped - LEVELS // 2
        return kept.to(like.dtype).mul_(LEVELS / (LEVELS - num_dropped))


@dataclass(frozen=True)
class Penalties:
    """What training adds to the loss for large (AR) and quickly changing (TAR) outputs of the last layer."""

    activation: float = 0.0
    temporal: float = 0.0

    def __call__(self, hidden: Tensor, dropped: Tensor) -> Tensor | None:
        """(T, B, H) before and after dropout → the weighted sum of mean squares; None without penalties."""
        total = None
        if self.activation:
            total = self.activation * mean_square(dropped)
        if self.temporal and len(hidden) > 1:
            change = self.temporal * mean_square(hidden[1:] - hidden[:-1])
            total = change if total is None else total + change
        return total


NO_PENALTIES = Penalties()


def mean_square(values: Tensor) -> Tensor:
    """Return the mean square of ``values``, computed at least in float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32)).square().mean()
