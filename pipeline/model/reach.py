"""How far back each token of a window attends: over the window and a cache of what earlier tokens left.

The cache of a stream has M slots, with the newest token in the last, and counts the tokens seen. A token attends to
itself and to at most M tokens before it, whatever window they were read in, but to none from before its stream
restarted. If a text is read in blocks of M tokens, it attends to itself and all tokens before it in its block. So how
a text is cut into windows changes nothing. Letters: T time, B streams, M slots, K slots and tokens attended to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# A count that reaches twice this is reduced by this: it stays exact in float32 and above M, and positions, which turn
# a whole number of times per period (``attention.rotary_turns``), are as before.
PERIOD = 2**23


@dataclass(frozen=True)
class Reach:
    """What the tokens of one window attend to; the same for every layer."""

    num_cached: int  # number of newest slots, which precede the T tokens
    mask: Tensor | None  # (T, K) or (B, 1, T, K), true where a token attends; None: as ``is_causal`` says
    is_causal: bool  # without a mask: whether each attends up to itself; else to everything
    places: Tensor  # (T,) or (T, B), tokens before each in its block, or since its stream began
    count: Tensor  # (B,) after the window
    starts_anew: bool = False  # whether the count of every stream is known to be 0

    def joined(self, cached: Tensor, new: Tensor) -> Tensor:
        """(B, M, S) cached and (B, T, S) new → (B, K, S)."""
        if not self.num_cached:
            return new
        return torch.cat([cached[:, cached.shape[1] - self.num_cached :].to(new.dtype), new], dim=1)


@dataclass(frozen=True)
class Ring:
    """What a single token of each stream attends to; the token is the newest in a ring of R slots."""

    slot: Tensor  # (B,) where it is written: the slot that was the oldest
    mask: Tensor | None  # (B, 1, 1, R), true where a slot is attended to; None: all are
    is_causal: bool = False

    @classmethod
    def of(cls, count: Tensor, oldest: Tensor, *, size: int) -> Ring:
        """Return the ring of ``size`` slots after (B,) ``count`` tokens, its ``oldest`` slots at (B,)."""
        ages = (oldest.unsqueeze(1) - torch.arange(size)) % size  # (B, R)
        mask = ages <= count.unsqueeze(1)
        return cls(oldest, None if bool(mask.all()) else mask.view(len(mask), 1, 1, size))

    def joined(self, cached: Tensor, new: Tensor) -> Tensor:
        """(B, R, S) with the (B, 1, S) ``new`` written into it, in place."""
        cached[torch.arange(len(cached)), self.slot] = new[:, 0].to(cached.dtype)
        return cached


def reach(count: Tensor, num_steps: int, *, size: int, in_blocks: bool = False, resets: Tensor | None = None) -> Reach:
    """Return what ``num_steps`` tokens attend to.

    Args:
        count: (B,) tokens before the window, the newest of which are in a cache of ``size`` slots.
        in_blocks: whether a text is read in blocks of ``size`` tokens.
        resets: (T, B), true where a stream restarts before that token.
    """
    steps = torch.arange(num_steps, device=count.device)
    number = _common(count) if resets is None else None
    if number is not None:
        return _of_streams_alike(number, count, steps, size=size, in_blocks=in_blocks)
    column = steps.unsqueeze(1)
    places = count.long() + column  # (T, B)
    if resets is not None:
        begun = torch.where(resets, column, -1).cummax(0).values
        places = torch.where(begun < 0, places, column - begun)
    if in_blocks:
        places = places % size
    distances = size + column - torch.arange(size + num_steps, device=count.device)  # (T, K)
    mask = (distances >= 0) & (distances <= places.clamp(max=size).t().unsqueeze(2))  # (B, T, K)
    return Reach(size, mask.unsqueeze(1), False, places, counted(places[-1] + 1, size, in_blocks))


def _of_streams_alike(number: int, count: Tensor, steps: Tensor, *, size: int, in_blocks: bool) -> Reach:
    """Return what the tokens attend to if each stream has had ``number`` before and none restarts."""
    num_steps = len(steps)
    places = number + steps  # (T,)
    if in_blocks:
        places = places % size
    after = counted(count.long() + num_steps, size, in_blocks)
    starts_anew = in_blocks and (number + num_steps) % size == 0
    num_cached = min(number, size)
    if num_steps == 1 or (number == 0 and num_steps <= size):
        return Reach(num_cached, None, num_steps > 1, places, after, starts_anew)
    distances = num_cached + steps.unsqueeze(1) - torch.arange(num_cached + num_steps, device=steps.device)  # (T, K)
    mask = (distances >= 0) & (distances <= places.clamp(max=size).unsqueeze(1))
    return Reach(num_cached, mask, False, places, after, starts_anew)


def counted(count: Tensor, size: int, in_blocks: bool = False) -> Tensor:
    """Return the count that is kept after (B,) ``count`` tokens; arguments as of ``reach``."""
    return count % size if in_blocks else torch.where(count >= 2 * PERIOD, count - PERIOD, count)


def _common(count: Tensor) -> int | None:
    """Return the count that all streams share; None if there is none, or the host would have to wait for it."""
    if count.device.type != "cpu":
        return None
    first = int(count[0])
    return first if bool((count == first).all()) else None


def in_order(slots: Tensor, oldest: Tensor, *, size: int) -> Tensor:
    """(L, B, R · S) with R = ``size`` slots, the ``oldest`` of them at (B,) → the same with the oldest first."""
    order = (oldest.unsqueeze(1) + torch.arange(size)) % size  # (B, R)
    rows = torch.arange(len(order)).unsqueeze(1)
    return slots.unflatten(2, (size, -1))[:, rows, order].flatten(2)


def newest(joined: Tensor, size: int) -> Tensor:
    """(B, K, S) → (B, M · S): the last ``size`` of K, with zeros before them if there are fewer."""
    missing = size - joined.shape[1]
    return (F.pad(joined, (0, 0, missing, 0)) if missing > 0 else joined[:, -missing:]).flatten(1)
