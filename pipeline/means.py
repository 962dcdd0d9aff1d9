"""The mean of the figures of several runs, and how certain it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

CONFIDENCE = 0.95
MOST_NATS = 700.0  # beyond that, exp overflows
HALVINGS = 60  # of the interval in which an angle is searched: to the precision of floating-point numbers


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return the mean of ``values`` and the ends of its 95 % interval by Student's t (Student 1908); None for one."""
    mean, number = fmean(values), len(values)
    if number < 2:
        return mean, None, None
    half = student(number - 1) * stdev(values) / math.sqrt(number)
    return mean, mean - half, mean + half


def exp(nats: float) -> float:
    """Return the perplexity of a mean of ``nats`` per token, or of an end of its interval; infinite if too large."""
    return math.exp(nats) if nats < MOST_NATS else math.inf


def student(degrees: int) -> float:
    """Return the t for which 95 % of Student's distribution with these degrees of freedom lie within ±t."""
    low, high = 0.0, math.pi / 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < CONFIDENCE else (low, middle)
    return math.tan(low) * math.sqrt(degrees)


def _within(angle: float, degrees: int) -> float:
    """Return the probability of |T| ≤ √degrees · tan(angle) (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4)."""
    odd = degrees % 2
    total, term = 0.0, math.cos(angle) if odd else 1.0
    for place in range(1, degrees // 2 + 1):
        total += term
        term *= math.cos(angle) ** 2 * (2 * place - 1 + odd) / (2 * place + odd)
    found = math.sin(angle) * total
    return (angle + found) * 2 / math.pi if odd else found
