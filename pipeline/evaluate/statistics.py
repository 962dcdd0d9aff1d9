"""How sure figures are, from sums by document: an interval by bootstrap, a paired test of two models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline import metrics
from pipeline.evaluate.breakdown import Numbers

NUM_SAMPLES = 2_000
CONFIDENCE = 0.95
# of a normal distribution, as much lies within so many standard deviations
DEVIATIONS = 1.959963984540054


@dataclass(frozen=True)
class Comparison:
    """How many nats per token a second model needs more than a first on the same text."""

    difference: float
    low: float  # the interval of the difference
    high: float
    p_value: float  # of so large a difference if the models were alike


def perplexity_interval(nats: Numbers, tokens: Numbers, *, seed: int = 1) -> tuple[float, float]:
    """The 95 % interval of perplexity if the documents, (U,) sums each, were others of the same kind.

    Percentiles of the figure over samples of documents drawn with replacement (Efron & Tibshirani 1993).
    """
    samples = _samples(nats, tokens, seed)
    low, high = np.quantile(samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return metrics.perplexity(low, 1), metrics.perplexity(high, 1)


def compare(
    first: Numbers, second: Numbers, tokens: Numbers, *, seed: int = 1, num_samples: int = NUM_SAMPLES
) -> Comparison:
    """Compare two models on the same documents, given (U,) nats of each and the tokens.

    The interval is by bootstrap over documents; the p-value by exchanging the two models' nats of documents at random
    (a paired permutation test, two-sided; Fisher 1935, Yeh 2000), ``num_samples`` times.
    """
    by_document = second - first
    low, high = np.quantile(_samples(by_document, tokens, seed), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    generator = np.random.default_rng([seed, 1])
    observed = abs(by_document.sum())
    num_as_large = 0
    for _ in range(num_samples):
        signs = 2.0 * generator.integers(2, size=len(by_document)) - 1
        num_as_large += abs(signs @ by_document) >= observed * (1 - 1e-12)
    p_value = (num_as_large + 1) / (num_samples + 1)
    return Comparison(float(by_document.sum() / tokens.sum()), float(low), float(high), p_value)


def share_interval(
    right: Sequence[int], totals: Sequence[int], *, weights: Sequence[float], seed: int = 1
) -> tuple[float, float]:
    """The 95 % interval of the mean of the shares ``right`` ÷ ``totals`` of one or several groups of items.

    Of one group by Wilson (1927); of several by bootstrap, items drawn with replacement within each group.

    Args:
        weights: of the groups in the mean, 1 together.
    """
    if len(totals) == 1:
        return _wilson(right[0], totals[0])
    shares, sizes = np.array(right) / np.array(totals), np.array(totals)
    samples = np.random.default_rng(seed).binomial(sizes, shares, size=(NUM_SAMPLES, len(sizes))) / sizes
    low, high = np.quantile(samples @ np.array(weights), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _wilson(right: int, total: int) -> tuple[float, float]:
    share, z = right / total, DEVIATIONS**2 / total
    middle = (share + z / 2) / (1 + z)
    half = math.sqrt(z * share * (1 - share) + z * z / 4) / (1 + z)
    return max(0.0, middle - half), min(1.0, middle + half)


def correlation_interval(correlation: float, number: int) -> tuple[float, float]:
    """The 95 % interval of Pearson's ``correlation`` of ``number`` pairs (Fisher 1921); nan where it has none."""
    if number < 4 or not abs(correlation) < 1:
        return math.nan, math.nan
    middle, half = math.atanh(correlation), DEVIATIONS / math.sqrt(number - 3)
    return math.tanh(middle - half), math.tanh(middle + half)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's ρ: Pearson's correlation of ranks, of which equal values share the mean; nan where all are equal."""
    return correlation(_ranks(first), _ranks(second))


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's r; nan for fewer than two pairs, or where all values of one are equal."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Sequence[float]) -> list[float]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return [float(rank) for rank in ranks[places]]


def explained(design: Numbers, values: Numbers) -> float:
    """R² of (N,) ``values`` by least squares on (N, K) columns and a constant."""
    whole = np.column_stack([np.ones(len(values)), design])
    found, *_ = np.linalg.lstsq(whole, values, rcond=None)
    spread = values - values.mean()
    residuals = values - whole @ found
    return 1 - float(residuals @ residuals) / float(spread @ spread)


def student_p_value(t: float, freedom: float) -> float:
    """The probability of a Student's t as large as ``t`` either way, with ``freedom`` degrees of freedom.

    With t = √ν tan θ the density is that of cosᵛ⁻¹ θ, which is summed up numerically (error below 1e-6).
    """
    angles = np.linspace(0.0, math.pi / 2, 20_001)
    areas = np.concatenate([[0.0], np.cumsum(_simpson(np.cos(angles) ** (freedom - 1)))])
    return float(1 - np.interp(math.atan(abs(t) / math.sqrt(freedom)), angles[::2], areas / areas[-1]))


def _simpson(values: Numbers) -> Numbers:
    """Simpson's rule on each two steps of evenly spaced ``values``, up to a factor."""
    return values[:-2:2] + 4 * values[1:-1:2] + values[2::2]


def student_point(freedom: float) -> float:
    """The t that 95 % lie within, either way."""
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p_value(middle, freedom) > 1 - CONFIDENCE else (low, middle)
    return low


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) p-values: each is below 0.05 where its test holds with an error of 5 % over all tests together."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the standard deviation of several runs' figures; nan for the deviation of one."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return float(np.mean(values)), deviation


def _samples(nats: Numbers, tokens: Numbers, seed: int) -> Numbers:
    """Nats per token of each of many samples of the documents."""
    generator = np.random.default_rng(seed)
    result = np.empty(NUM_SAMPLES)
    for index in range(NUM_SAMPLES):
        drawn = generator.integers(len(nats), size=len(nats))
        result[index] = nats[drawn].sum() / tokens[drawn].sum()
    return result
