"""Turn sums of nats and tokens into perplexity and bits per byte. Everything is summed first and divided once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist

MOST_IN_DIGITS = 1e12


def perplexity(total_nats: float, num_tokens: float) -> float:
    """Return exp(total nats ÷ total tokens): never an average of averages. Infinite if it overflows."""
    mean = total_nats / num_tokens
    return math.exp(mean) if mean < 700 else math.inf


def shown(perplexity: float) -> str:
    """Format ``perplexity`` for people: ``1,234.568``, or ``1.23e+40`` if its digits would fill a line."""
    return f"{perplexity:,.3f}" if perplexity < MOST_IN_DIGITS else f"{perplexity:.3g}"


def bits_per_byte(total_nats: float, num_bytes: float) -> float:
    """Return total nats ÷ ln 2 ÷ bytes of the scored text, comparable between tokenizers."""
    return total_nats / math.log(2) / num_bytes


def all_reduce_sum(values: Sequence[float]) -> list[float]:
    """Sum each of ``values`` over all ranks in float64; without a process group return them unchanged."""
    if not dist.is_available() or not dist.is_initialized():
        return [float(value) for value in values]
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return [float(value) for value in total.tolist()]
