"""The mean of the figures of several runs, how certain it is, and p-values of Student's t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import fmean, stdev

CONFIDENCE = 0.95
MOST_NATS = 700.0  # beyond that, exp overflows
HALVINGS = 60  # of the interval in which an angle is searched: to the precision of floating-point numbers
FRACTIONS = 200  # terms of a continued fraction, which has converged long before


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return the mean of ``values`` and the ends of its 95 % interval by Student's t (Student 1908); None for one."""
    mean, number = fmean(values), len(values)
    if number < 2:
        return mean, None, None
    half = student_point(number - 1) * stdev(values) / math.sqrt(number)
    return mean, mean - half, mean + half


def exp(nats: float) -> float:
    """Return the perplexity of a mean of ``nats`` per token, or of an end of its interval; infinite if too large."""
    return math.exp(nats) if nats < MOST_NATS else math.inf


@cache
def student_point(freedom: float) -> float:
    """Return the t for which 95 % of Student's distribution with ``freedom`` degrees of freedom lie within ±t."""
    low, high = 0.0, math.pi / 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        outside = student_p_value(math.tan(middle) * math.sqrt(freedom), freedom)
        low, high = (middle, high) if outside > 1 - CONFIDENCE else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def student_p_value(t: float, freedom: float) -> float:
    """Return the probability of |T| ≥ |t|: the two-sided p-value of ``t`` with ``freedom`` degrees of freedom.

    It is the regularised incomplete beta function at ν / (ν + t²) for ν/2 and 1/2 (DLMF 8.17).
    """
    x, a, b = freedom / (freedom + t * t), freedom / 2, 0.5
    if x in (0.0, 1.0):
        return x
    log_factor = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x > (a + 1) / (a + b + 2):  # where the other tail's fraction converges faster
        return 1 - math.exp(log_factor) / b * _beta_fraction(1 - x, b, a)
    return math.exp(log_factor) / a * _beta_fraction(x, a, b)


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of the incomplete beta function (DLMF 8.17.22), from its last term to the first."""
    found = 1.0
    for place in range(FRACTIONS, 0, -1):
        m, odd = divmod(place, 2)
        above = -(a + m) * (a + b + m) if odd else m * (b - m)
        found = 1 + above * x / ((a + place - 1) * (a + place)) / found
    return 1 / found
