"""Sparse linear probes: which few units predict a label, judged on text that they were not fitted to.

Logistic regression for yes or no, least squares for numbers, with an L1 penalty (Tibshirani 1996), fitted with
accelerated proximal gradients (Beck & Teboulle 2009). For comparison, the same probe on a control task: labels that are
random for each type of token, so that a probe that only knows tokens by heart does as well there (Hewitt & Liang 2019).
Letters: n tokens, U units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.data.tokenizer import Ids

Numbers = np.ndarray[Any, np.dtype[np.floating[Any]]]

# consecutive tokens that form a block; of every five blocks, three are to fit, one to choose, one to judge
BLOCK_TOKENS = 200
# units with the largest correlation, among which the penalty chooses (Fan & Lv 2008)
MOST_UNITS = 256
# as shares of the least penalty that makes all weights 0; the strongest that scores about as well as the best is kept
PENALTIES = (0.5, 0.25, 0.1, 0.05, 0.02, 0.01)
TOLERANCE = 0.01
STEPS = 100


@dataclass(frozen=True)
class Parts:
    """Indices of the tokens to fit with, to choose with, and to judge with."""

    fit: Ids
    choose: Ids
    judge: Ids

    @classmethod
    def of(cls, num_tokens: int) -> Parts:
        length = max(1, min(BLOCK_TOKENS, num_tokens // 15))
        turn = np.arange(num_tokens) // length % 5
        return cls(np.flatnonzero(turn < 3), np.flatnonzero(turn == 3), np.flatnonzero(turn == 4))


@dataclass(frozen=True)
class Probe:
    """The units it uses, their weights for standardised states, the largest first, and its score on judged tokens."""

    units: Ids
    weights: Numbers
    score: float


def correlations(states: Numbers, labels: Numbers) -> Numbers:
    """Return Pearson's r, (U,), of each column of (n, U) ``states`` with (n,) ``labels``; 0 if either is constant."""
    centred, own = states - states.mean(0), labels - labels.mean()
    scale = np.sqrt((centred**2).sum(0) * (own**2).sum())
    return np.divide(own @ centred, scale, out=np.zeros(states.shape[1]), where=scale > 1e-12)


def score_of(predictions: Numbers, labels: Numbers, *, is_number: bool) -> float:
    """Return how well (n,) ``predictions`` match ``labels``: R² for numbers, else the area under the ROC curve."""
    if is_number:
        spread = float(((labels - labels.mean()) ** 2).sum())
        return 1 - float(((labels - predictions) ** 2).sum()) / spread if spread else 0.0
    return area_under_curve(predictions, labels)


def area_under_curve(predictions: Numbers, labels: Numbers) -> float:
    """Return how often a yes is ranked above a no, ties counting ½ (Mann & Whitney 1947); ½ if either is missing."""
    num_yes = int(labels.sum())
    num_no = len(labels) - num_yes
    if not num_yes or not num_no:
        return 0.5
    _, places, counts = np.unique(predictions, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return float((ranks[labels > 0].sum() - num_yes * (num_yes + 1) / 2) / (num_yes * num_no))


def one_unit_score(values: Numbers, labels: Numbers, parts: Parts, *, is_number: bool) -> float:
    """Return how well a single unit predicts labels of the judged tokens, by a line fitted to the others."""
    fit = np.concatenate([parts.fit, parts.choose])
    spread = values[fit].var()
    slope = np.mean((values[fit] - values[fit].mean()) * (labels[fit] - labels[fit].mean())) / spread if spread else 0.0
    predictions = labels[fit].mean() + slope * (values - values[fit].mean())
    return score_of(predictions[parts.judge], labels[parts.judge], is_number=is_number)


def fit_probe(states: Numbers, labels: Numbers, parts: Parts, *, is_number: bool) -> Probe:
    """Fit a probe for (N,) ``labels`` on (N, U) ``states`` that is as sparse as it can be without scoring worse."""
    r = np.abs(correlations(states[parts.fit], labels[parts.fit]))
    units = np.argsort(-r, kind="stable")[:MOST_UNITS]
    own = states[:, units].astype(np.float64)
    mean, scale = own[parts.fit].mean(0), own[parts.fit].std(0)
    own = (own - mean) / np.where(scale > 1e-12, scale, 1.0)  # (N, at most 256)
    targets, offset, size = labels, 0.0, 1.0
    if is_number:
        offset, size = float(labels[parts.fit].mean()), float(labels[parts.fit].std()) or 1.0
        targets = (labels - offset) / size
    found = []
    start: Numbers = np.zeros(len(units) + 1).astype(np.result_type(own, np.float64))
    strongest = float(np.abs((targets[parts.fit] - targets[parts.fit].mean()) @ own[parts.fit]).max()) / len(parts.fit)
    for share in PENALTIES:
        start = fit_sparse(own[parts.fit], targets[parts.fit], share * strongest, start, is_number=is_number)
        predictions = offset + size * (own @ start[:-1] + start[-1])  # (N,)
        chosen = score_of(predictions[parts.choose], labels[parts.choose], is_number=is_number)
        judged = score_of(predictions[parts.judge], labels[parts.judge], is_number=is_number)
        found.append((chosen, judged, start))
    best = max(chosen for chosen, *_ in found)
    _, score, weights = next(each for each in found if each[0] >= best - TOLERANCE)
    order = np.argsort(-np.abs(weights[:-1]), kind="stable")
    order = order[weights[order] != 0]
    return Probe(units[order], weights[order], score)


def fit_sparse(states: Numbers, labels: Numbers, penalty: float, start: Numbers, *, is_number: bool) -> Numbers:
    """Minimise mean loss plus ``penalty`` · Σ |weight| from ``start``; returns (U + 1,): weights, then the constant."""
    num_tokens = len(states)
    curvature = 1.0 if is_number else 0.25
    step = 1 / (curvature * (largest_square(states) / num_tokens + 1))  # the constant's own column adds 1
    weights, ahead, momentum = start.copy(), start.copy(), 1.0
    for _ in range(STEPS):
        predictions = states @ ahead[:-1] + ahead[-1]  # (n,)
        if not is_number:
            predictions = 0.5 * (1 + np.tanh(0.5 * predictions))
        errors = (predictions - labels) / num_tokens
        former = weights
        weights = ahead - step * np.append(errors @ states, errors.sum())
        weights[:-1] = np.sign(weights[:-1]) * np.maximum(np.abs(weights[:-1]) - step * penalty, 0)
        if (ahead - weights) @ (weights - former) > 0:  # it has overshot: restart (O'Donoghue & Candès 2015)
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = weights + (momentum - 1) / following * (weights - former)
        momentum = following
    return weights


def largest_square(states: Numbers) -> float:
    """Return the square of the largest singular value of (n, U) ``states``."""
    return float(np.linalg.eigvalsh(states.T @ states)[-1])


def control_labels(ids: Ids, labels: Numbers, *, seed: int) -> Numbers:
    """Return (N,) labels of the control task: one for each type, drawn from the (N,) true ones."""
    types, places = np.unique(ids, return_inverse=True)
    return np.random.default_rng(seed).choice(labels, size=len(types))[places]
