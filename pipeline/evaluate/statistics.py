"""How sure figures are, from sums by document: an interval by bootstrap, a paired test of two models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline import metrics
from pipeline.evaluate.breakdown import Numbers

NUM_SAMPLES = 2_000
CONFIDENCE = 0.95


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


def compare(first: Numbers, second: Numbers, tokens: Numbers, *, seed: int = 1) -> Comparison:
    """Compare two models on the same documents, given (U,) nats of each and the tokens.

    The interval is by bootstrap over documents; the p-value by exchanging the two models' nats of documents at random
    (a paired permutation test, two-sided; Fisher 1935, Yeh 2000).
    """
    by_document = second - first
    low, high = np.quantile(_samples(by_document, tokens, seed), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    generator = np.random.default_rng([seed, 1])
    observed = abs(by_document.sum())
    num_as_large = 0
    for _ in range(NUM_SAMPLES):
        signs = 2.0 * generator.integers(2, size=len(by_document)) - 1
        num_as_large += abs(signs @ by_document) >= observed * (1 - 1e-12)
    p_value = (num_as_large + 1) / (NUM_SAMPLES + 1)
    return Comparison(float(by_document.sum() / tokens.sum()), float(low), float(high), p_value)


def _samples(nats: Numbers, tokens: Numbers, seed: int) -> Numbers:
    """Nats per token of each of many samples of the documents."""
    generator = np.random.default_rng(seed)
    result = np.empty(NUM_SAMPLES)
    for index in range(NUM_SAMPLES):
        drawn = generator.integers(len(nats), size=len(nats))
        result[index] = nats[drawn].sum() / tokens[drawn].sum()
    return result
