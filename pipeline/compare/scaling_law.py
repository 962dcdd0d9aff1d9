"""Runs of several sizes and lengths → L(N, D) = E + A/N^α + B/D^β, with intervals (Hoffmann et al. 2022, approach 3).

The logarithm of the loss is fitted: log-sum-exp(a − α ln N, b − β ln D, e), the Huber loss of its residuals with
δ = 0.001, from a grid of starts; a = ln A, b = ln B, e = ln E. Intervals are percentiles over samples of the runs,
drawn with replacement. Each start descends by damped Gauss–Newton steps on reweighted residuals (Levenberg 1944,
Marquardt 1963; Holland & Welsch 1977), all starts at once. Letters: S starts, R runs, the 5 are (a, α, b, β, e).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from pipeline.errors import UserError

Array = np.ndarray[Any, np.dtype[np.float64]]

LEAST_RUNS, LEAST_SIZES, LEAST_LENGTHS = 12, 3, 3
DELTA = 1e-3
GRID = ([0.0, 5.0, 10.0, 15.0, 20.0, 25.0], [0.0, 0.5, 1.0, 1.5, 2.0]) * 2 + ([-1.0, -0.5, 0.0, 0.5, 1.0],)
# starts of the grid that are followed: those with the lowest loss
NUM_FOLLOWED, NUM_STEPS = 60, 300
NUM_SAMPLES, NUM_SAMPLE_STEPS = 200, 120
CONFIDENCE = 0.95
NAMES = ("E", "A", "alpha", "B", "beta")


@dataclass(frozen=True)
class Run:
    """One trained model: parameters, tokens, and loss in nats per token."""

    parameters: int
    tokens: int
    loss: float


@dataclass(frozen=True)
class Law:
    """The constants, each with the ends of its 95 % interval; ``residual``: the root mean square of ln L − fit."""

    constants: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    num_runs: int
    residual: float

    def loss(self, parameters: float, tokens: float) -> float:
        """Nats per token that the law predicts."""
        c = self.constants
        return c["E"] + c["A"] / parameters ** c["alpha"] + c["B"] / tokens ** c["beta"]


def check_runs(runs: Sequence[Run]) -> None:
    """Raise ``UserError`` where there are too few runs, sizes or lengths for five constants."""
    sizes, lengths = ({getattr(run, name) for run in runs} for name in ("parameters", "tokens"))
    if len(runs) < LEAST_RUNS or len(sizes) < LEAST_SIZES or len(lengths) < LEAST_LENGTHS:
        raise UserError(
            f"{len(runs)} run{'s' if len(runs) != 1 else ''} (sizes: {len(sizes)}, lengths: {len(lengths)}) are too "
            f"few to fit L(N, D): at least {LEAST_RUNS}, of {LEAST_SIZES} sizes and {LEAST_LENGTHS} lengths, are needed"
        )


def fit_law(runs: Sequence[Run], *, seed: int = 1) -> Law:
    """Fit ``runs``. Raises ``UserError`` as ``check_runs``."""
    check_runs(runs)
    values = np.array([[math.log(run.parameters), math.log(run.tokens), math.log(run.loss)] for run in runs])  # (R, 3)
    weights = np.ones((1, len(runs)))
    starts = np.array(list(product(*GRID)))  # (S, 5)
    starts = starts[np.argsort(huber(residuals(starts, values), weights))[:NUM_FOLLOWED]]
    ends = descend(starts, values, weights, num_steps=NUM_STEPS)
    best = ends[np.argmin(huber(residuals(ends, values), weights))]
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(runs), size=(NUM_SAMPLES, len(runs)))
    counts = np.stack([np.bincount(row, minlength=len(runs)) for row in drawn]).astype(np.float64)  # (S, R)
    samples = descend(np.repeat(best[None], NUM_SAMPLES, axis=0), values, counts, num_steps=NUM_SAMPLE_STEPS)
    low, high = np.quantile(constants_of(samples), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    residual = float(np.sqrt(np.mean(residuals(best[None], values) ** 2)))
    intervals = {name: (float(a), float(b)) for name, a, b in zip(NAMES, low, high, strict=True)}
    constants = dict(zip(NAMES, map(float, constants_of(best[None])[0]), strict=True))
    return Law(constants, intervals, len(runs), residual)


def constants_of(points: Array) -> Array:
    """(S, 5) E, A, α, B, β of (S, 5) points."""
    a, alpha, b, beta, e = points.T
    return np.stack([np.exp(e), np.exp(a), alpha, np.exp(b), beta], axis=1)


def terms(points: Array, values: Array) -> Array:
    """(S, R, 3) the logarithms of A/N^α, B/D^β and E at each run."""
    a, alpha, b, beta, e = (column[:, None] for column in points.T)
    by_size, by_length = a - alpha * values[:, 0], b - beta * values[:, 1]
    return np.stack([by_size, by_length, np.broadcast_to(e, by_size.shape)], axis=2)


def residuals(points: Array, values: Array) -> Array:
    """(S, R) the fitted minus the measured logarithm of the loss."""
    return np.logaddexp.reduce(terms(points, values), axis=2) - values[:, 2]


def huber(residual: Array, weights: Array) -> Array:
    """(S,) the Huber loss of (S, R) residuals."""
    size = np.abs(residual)
    each = np.where(size <= DELTA, 0.5 * residual**2, DELTA * (size - 0.5 * DELTA))
    return (each * weights).sum(axis=1)


def descend(points: Array, values: Array, weights: Array, *, num_steps: int) -> Array:
    """Where (S, 5) ``points`` end up. A step that does not lower the loss is not taken; the next is shorter."""
    damping = np.full(len(points), 1e-2)
    residual = residuals(points, values)
    loss = huber(residual, weights)
    for _ in range(num_steps):
        parts = terms(points, values)
        shares = np.exp(parts - np.logaddexp.reduce(parts, axis=2, keepdims=True))  # (S, R, 3)
        slopes = np.stack(
            [shares[..., 0], -shares[..., 0] * values[:, 0], shares[..., 1], -shares[..., 1] * values[:, 1],
             shares[..., 2]], axis=2,
        )  # fmt: skip
        each = weights * np.minimum(1.0, DELTA / np.maximum(np.abs(residual), 1e-300))  # (S, R)
        weighted = slopes * each[..., None]
        hessian = np.einsum("sri,srj->sij", weighted, slopes)
        gradient = np.einsum("sri,sr->si", weighted, residual)
        scale = np.einsum("sii->si", hessian) + 1e-8
        damped = hessian + damping[:, None, None] * scale[:, :, None] * np.eye(5)
        moved = points - np.clip(np.linalg.solve(damped, gradient[..., None])[..., 0], -2.0, 2.0)
        new_residual = residuals(moved, values)
        new_loss = huber(new_residual, weights)
        is_better = new_loss < loss
        points = np.where(is_better[:, None], moved, points)
        residual = np.where(is_better[:, None], new_residual, residual)
        loss = np.where(is_better, new_loss, loss)
        damping = np.clip(np.where(is_better, damping / 3, damping * 4), 1e-9, 1e9)
    return points
