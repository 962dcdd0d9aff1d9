"""Draws one token for each row of logits: filters, then the inverse of the cumulative distribution.

A uniform number belongs to (seed, prompt, copy, position) and to nothing else, so the text of a prompt does not
depend on what else is written beside it. Letters: B prompts, V vocabulary.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from pipeline.data.tokenizer import Ids
from pipeline.options import Sampling

# uniform numbers generated at a time for a prompt; Philox gives four per count
BLOCK = 256
# weights of a block: if there are many, the block that a token lies in is found first, then the token
SUMMED = 100
# up to this number, weights are added up faster one by one than in blocks
FEW_WEIGHTS = 50_000
# the largest number below 1
BELOW_ONE = 1 - 2**-53


def penalize(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """(B, V) logits with those of the ``seen`` (B, V) tokens made less likely (Keskar et al. 2019)."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def filtered(logits: Tensor, sampling: Sampling) -> Tensor:
    """(B, V) logits divided by the temperature, −∞ where ``sampling`` leaves a token out.

    Top-p: Holtzman et al. 2020; min-p: Nguyen et al. 2024. The likeliest token always stays.
    """
    if sampling.takes_the_likeliest:
        likeliest = logits.argmax(1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter_(1, likeliest, 0.0)
    if sampling.temperature != 1:
        logits = logits / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits.shape[1]:
        lowest = logits.topk(sampling.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < lowest, -torch.inf)
    if sampling.top_p is not None and sampling.top_p < 1:
        ordered, indices = logits.double().softmax(1).sort(dim=1, descending=True, stable=True)
        before = ordered.cumsum(1) - ordered  # probability of the likelier ones
        left_out = torch.zeros_like(before, dtype=torch.bool).scatter_(1, indices, before >= sampling.top_p)
        logits = logits.masked_fill(left_out, -torch.inf)
    if sampling.min_p:
        highest = logits.amax(1, keepdim=True)
        logits = logits.masked_fill((logits - highest).exp() < sampling.min_p, -torch.inf)
    return logits


def draw(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> Tensor:
    """(B, V) logits and (B,) uniform numbers in [0, 1), float64 → (B,) tokens; ``logits`` may be overwritten.

    The softmax enters only as the running sum of its weights, in float64, and each row takes a single random number. A
    row without probabilities, because of a NaN or +∞ in it, has no token and gets V.
    """
    if sampling.takes_the_likeliest:
        likeliest = logits.argmax(1, keepdim=True)
        is_finite = logits.gather(1, likeliest).isfinite()
        return likeliest.masked_fill(~is_finite, logits.shape[1]).squeeze(1)
    logits = filtered(logits, sampling)
    weights = logits.sub_(logits.amax(1, keepdim=True)).exp_()
    if weights.numel() > FEW_WEIGHTS:
        return draw_by_blocks(weights, uniforms)
    cumulative = weights.cumsum(1, dtype=torch.float64)
    return step_at(cumulative, uniforms.unsqueeze(1) * cumulative[:, -1:]).squeeze(1)


def draw_by_blocks(weights: Tensor, uniforms: Tensor) -> Tensor:
    """(B, V) weights, (B,) uniform numbers → (B,) tokens: the running sum of blocks first, then of one block per row.

    A row whose weights are NaN has no token and gets V.
    """
    num_types = weights.shape[1]
    num_blocks, whole = num_types // SUMMED, num_types // SUMMED * SUMMED
    sums = weights[:, :whole].unflatten(1, (num_blocks, SUMMED)).sum(2, dtype=torch.float64)
    sums = torch.cat([sums, weights[:, whole:].sum(1, keepdim=True, dtype=torch.float64)], dim=1)
    cumulative = sums.cumsum(1)  # (B, blocks)
    sought = uniforms.unsqueeze(1) * cumulative[:, -1:]  # (B, 1)
    block = step_at(cumulative, sought).clamp_(max=num_blocks)
    own = sums.gather(1, block)
    # how far into its block, as a share, kept below 1 although the subtraction rounds
    within = ((sought - cumulative.gather(1, block) + own) / own).clamp_(0, BELOW_ONE)
    types = block * SUMMED + torch.arange(SUMMED, device=weights.device)  # (B, SUMMED)
    weights = weights.gather(1, types.clamp(max=num_types - 1)).masked_fill_(types >= num_types, 0)
    cumulative = weights.cumsum(1, dtype=torch.float64)
    step = step_at(cumulative, within * cumulative[:, -1:]).clamp_(max=SUMMED - 1)
    return types.gather(1, step).masked_fill_(sought.isnan(), num_types).squeeze(1)


def step_at(cumulative: Tensor, sought: Tensor) -> Tensor:
    """(B, N) running sums, (B, 1) numbers below the last → (B, 1) steps they fall in, never of height 0; N for NaN."""
    return torch.searchsorted(cumulative, sought, right=True)


class Uniforms:
    """The uniform numbers of one prompt by position, from Philox (Salmon et al. 2011): from a counter, not a state."""

    def __init__(self, seed: int, ids: Ids, copy: int = 0) -> None:
        text = np.asarray(ids, dtype="<i8").tobytes()
        digest = hashlib.blake2b(f"{seed} {copy} ".encode() + text, digest_size=16).digest()
        self.key = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
        self.index = -1
        self.block: list[float] = []

    def __getitem__(self, position: int) -> float:
        """The number for token ``position`` (from 0) after the prompt, in [0, 1)."""
        index, offset = divmod(position, BLOCK)
        if index != self.index:
            philox = np.random.Philox(key=self.key, counter=index * (BLOCK // 4))
            self.block = np.random.Generator(philox).random(BLOCK).tolist()
            self.index = index
        return self.block[offset]
