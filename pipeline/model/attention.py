"""Attention of the tokens of a window over keys and values, with rotary positions (Su et al. 2021).

Letters: T time, B streams, K keys, D size of a head, S size of all heads together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.model.reach import PERIOD, Reach, Ring

ROTARY_BASE = 10_000.0


def attend(queries: Tensor, keys: Tensor, values: Tensor, reach: Reach | Ring) -> Tensor:
    """(B, T, heads, D) over (B, K, key heads, D) → (B, T, heads · D).

    Each key head serves an equal number of consecutive heads (Ainslie et al. 2023, grouped-query attention).
    """
    groups = queries.shape[2] // keys.shape[2]
    queries, keys, values = (part.transpose(1, 2) for part in (queries, keys, values))
    if groups > 1:
        keys, values = (part.repeat_interleave(groups, dim=1) for part in (keys, values))
    found = F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=reach.mask, is_causal=reach.is_causal
    )  # (B, heads, T, D)
    return found.transpose(1, 2).flatten(2)


def rotated(vectors: Tensor, turns: Tensor) -> Tensor:
    """Rotate each pair of numbers in (B, T, heads, D) by its angle from ``rotary_turns``."""
    pairs = torch.view_as_complex(vectors.to(turns.real.dtype).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).to(vectors.dtype)


def rotary_turns(places: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """(T,) or (T, B) places → (T, 1, D/2) or (B, T, 1, D/2) complex numbers of modulus 1.

    The angle of pair i at place k is k · 10000^(−2i/D), with rates rounded to whole turns per ``PERIOD`` places. The
    product of two rotated vectors depends only on the difference of their places, and not on whole periods in it.
    """
    rates = ROTARY_BASE ** (-torch.arange(0, size, 2, dtype=torch.float64, device=places.device) / size)
    turn = 2 * math.pi / PERIOD
    rates = (rates / turn).round().clamp(min=1) * turn
    angles = (places.t().double().unsqueeze(-1) * rates).unsqueeze(-2)
    return torch.polar(torch.ones_like(angles), angles).to(torch.promote_types(dtype, torch.float32).to_complex())
