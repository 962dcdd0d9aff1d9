"""How certain figures are, from sums by document: bootstrap intervals, a paired test of two models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline import metrics
from pipeline.evaluate.breakdown import Numbers

NUM_SAMPLES = 2_000
CONFIDENCE = 0.95
# this share of a normal distribution is within this number of standard deviations
DEVIATIONS = 1.959963984540054


@dataclass(frozen=True)
class Comparison:
    """How many more nats per token a second model needs than a first on the same text."""

    difference: float
    low: float  # the interval of the difference
    high: float
    p_value: float  # of a difference at least this large if the models did not differ; nan if that is not a number


def perplexity_interval(nats: Numbers, tokens: Numbers, *, seed: int = 1) -> tuple[float, float]:
    """Return the 95 % interval of perplexity, taking the documents, (U,) sums each, as a sample.

    Percentiles of the figure over samples of documents drawn with replacement (Efron & Tibshirani 1993).
    """
    samples = _samples(nats, tokens, seed)
    low, high = np.quantile(samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return metrics.perplexity(low, 1), metrics.perplexity(high, 1)


def compare(
    first: Numbers, second: Numbers, tokens: Numbers, *, seed: int = 1, num_samples: int = NUM_SAMPLES
) -> Comparison:
    """Compare two models on the same documents, given (U,) nats of each and the tokens.

    The interval comes from a bootstrap over documents; the p-value from swapping the two models' nats of documents at
    random, ``num_samples`` times (a paired permutation test, two-sided; Fisher 1935, Yeh 2000).
    """
    by_document = second - first
    low, high = np.quantile(_samples(by_document, tokens, seed), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    generator = np.random.default_rng([seed, 1])
    observed = abs(by_document.sum())
    num_as_large = 0
    for _ in range(num_samples):
        signs = 2.0 * generator.integers(2, size=len(by_document)) - 1
        num_as_large += abs(signs @ by_document) >= observed * (1 - 1e-12)
    p_value = math.nan if math.isnan(observed) else (num_as_large + 1) / (num_samples + 1)
    return Comparison(float(by_document.sum() / tokens.sum()), float(low), float(high), p_value)


def share_interval(
    right: Sequence[int], totals: Sequence[int], *, weights: Sequence[float], seed: int = 1
) -> tuple[float, float]:
    """Return the 95 % interval of the mean of the shares ``right`` ÷ ``totals`` of one or several groups of items.

    For one group after Wilson (1927); for several by bootstrap, items drawn with replacement within each group.

    Args:
        weights: of the groups in the mean; they sum to 1.
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


def correlation_interval(correlation: float, number: int, *, is_of_ranks: bool = False) -> tuple[float, float]:
    """Return the 95 % interval of Pearson's ``correlation`` of ``number`` pairs (Fisher 1921); nan if it has none.

    Args:
        is_of_ranks: it is Spearman's ρ, which varies more from sample to sample (Bonett & Wright 2000).
    """
    if number < 4 or not abs(correlation) < 1:
        return math.nan, math.nan
    spread = 1 + correlation**2 / 2 if is_of_ranks else 1.0
    middle, half = math.atanh(correlation), DEVIATIONS * math.sqrt(spread / (number - 3))
    return math.tanh(middle - half), math.tanh(middle + half)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's ρ: Pearson's r of the ranks; equal values share their mean rank; nan if all are equal."""
    return correlation(_ranks(first), _ranks(second))


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Pearson's r; nan for fewer than two pairs, or if all values on one side are equal."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Sequence[float]) -> list[float]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return [float(rank) for rank in ranks[places]]


def explained(design: Numbers, values: Numbers) -> float:
    """Return R² of a least-squares fit of (N,) ``values`` on (N, K) columns and a constant."""
    whole = np.column_stack([np.ones(len(values)), design])
    found, *_ = np.linalg.lstsq(whole, values, rcond=None)
    spread = values - values.mean()
    residuals = values - whole @ found
    return 1 - float(residuals @ residuals) / float(spread @ spread)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's (1979) adjusted p-values: rejecting those below 0.05 keeps the family-wise error rate at 5 %."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation of several runs' figures; the deviation of one is nan."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return float(np.mean(values)), deviation


def _samples(nats: Numbers, tokens: Numbers, seed: int) -> Numbers:
    """Return the nats per token of each of ``NUM_SAMPLES`` samples of the documents."""
    generator = np.random.default_rng(seed)
    result = np.empty(NUM_SAMPLES)
    for index in range(NUM_SAMPLES):
        drawn = generator.integers(len(nats), size=len(nats))
        result[index] = nats[drawn].sum() / tokens[drawn].sum()
    return result
