"""Is reading time linear in surprisal? A natural spline compared with a line, and binned means of words.

Surprisal theory predicts that it is (Levy 2008; Smith & Levy 2013). Letters: N words, K columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.means import mean_interval
from pipeline.reading_times.predictors import Observations
from pipeline.reading_times.regression import LN_2, Regression, cross_validated, design, error_over_items, folds_of
from pipeline.tables import Numbers

# quantiles of surprisal at which the spline's pieces meet (Harrell 2015, table 2.3)
KNOTS = (0.05, 0.275, 0.5, 0.725, 0.95)
NUM_BINS, NUM_POINTS = 20, 200


@dataclass(frozen=True)
class Curve:
    """Time as a function of surprisal, all else equal: what is drawn, and whether a line suffices."""

    bits: Numbers  # (points,)
    line: Numbers  # time at each, minus the time at the mean surprisal
    spline: Numbers
    bin_bits: Numbers  # (bins,) mean surprisal of words with similar surprisal
    bin_times: Numbers  # their mean time, minus what the spline's regression attributes to all else
    bin_halves: Numbers  # half of the 95 % interval of that mean, by Student's t; nan for a single word
    delta: float  # log-likelihood per word of the spline minus that of the line, on held-out items
    delta_error: float
    chi_square: float  # twice the difference on the data they were fitted on; 3 degrees of freedom
    chi_square_p: float

    def figures(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("delta", "delta_error", "chi_square", "chi_square_p")}


def natural_spline(x: Numbers, knots: Numbers) -> Numbers:
    """Return (N, K − 1) columns that, with a constant, span the natural cubic splines with K knots; the first is ``x``.

    Source: Hastie, Tibshirani & Friedman 2009, equations 5.4 and 5.5.
    """

    def cubes(k: int) -> Numbers:
        found: Numbers = (np.maximum(x - knots[k], 0) ** 3 - np.maximum(x - knots[-1], 0) ** 3) / (knots[-1] - knots[k])
        return found

    last = cubes(len(knots) - 2)
    return np.column_stack([x, *(cubes(k) - last for k in range(len(knots) - 2))])


def curve_of(data: Observations, nats: Numbers, *, num_folds: int = 10, seed: int = 1) -> Curve:
    """Fit the curve of one model's (N, 3) ``nats`` to mean times per word by least squares.

    Raises:
        UserError: there are fewer than two items, or too few words.
    """
    from scipy.stats import chi2

    bits = nats[:, 0] / LN_2
    # quantiles of similar words can coincide: the knots of a spline must differ
    knots = np.unique(np.quantile(bits, KNOTS))
    basis = natural_spline(bits, knots) if len(knots) > 2 else bits[:, None]
    others = (*data.baseline.values(), nats[:, 1:])
    linear, bent = design(*others, bits), design(*others, basis)
    folds = folds_of(data.items, num_folds=num_folds, seed=seed)
    gain = cross_validated(data.times, bent, folds) - cross_validated(data.times, linear, folds)
    by_line, by_spline = Regression(data.times, linear), Regression(data.times, bent)
    chi_square = max(0.0, 2 * (by_spline.log_likelihood - by_line.log_likelihood))
    own = bent[:, -basis.shape[1] :] @ by_spline.coefficients[-basis.shape[1] :]  # (N,) due to the word's surprisal
    residuals = data.times - bent @ by_spline.coefficients + own
    bins = np.array_split(np.argsort(bits, kind="stable"), min(NUM_BINS, len(bits)))
    lowest, highest = np.quantile(bits, [0.005, 0.995]).tolist()
    points = np.linspace(lowest, highest, NUM_POINTS)
    at_points = natural_spline(points, knots) if len(knots) > 2 else points[:, None]
    scaled = (at_points - basis.mean(axis=0)) / basis.std(axis=0)
    return Curve(
        bits=points,
        line=(points - bits.mean()) / bits.std() * by_line.coefficients[-1],
        spline=scaled @ by_spline.coefficients[-basis.shape[1] :],
        bin_bits=np.array([bits[rows].mean() for rows in bins]),
        bin_times=np.array([residuals[rows].mean() for rows in bins]),
        bin_halves=np.array([half_interval(residuals[rows]) for rows in bins]),
        delta=float(gain.mean()),
        delta_error=error_over_items(gain, data.items),
        chi_square=chi_square,
        chi_square_p=float(chi2.sf(chi_square, max(1, basis.shape[1] - 1))),
    )


def half_interval(values: Numbers) -> float:
    """Return half of the 95 % interval of the mean of (n,) ``values``; nan for one."""
    mean, _, high = mean_interval(values.tolist())
    return math.nan if high is None else high - mean


def draw(curves: Mapping[str, Curve], *, unit: str) -> Any:
    """Draw ``curves``, keyed by the name of their model, in a matplotlib figure; ``unit`` is that of the times."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(curves), 3.8), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axes, (name, curve) in zip(panels, curves.items(), strict=True):
        axes.errorbar(
            curve.bin_bits, curve.bin_times, curve.bin_halves,
            fmt="o", markersize=4, color="0.4", elinewidth=1, label="words of similar surprisal, 95 % CI",
        )  # fmt: skip
        axes.plot(curve.bits, curve.line, "--", label="line")
        axes.plot(curve.bits, curve.spline, label="spline")
        axes.set(title=name, xlabel="surprisal, bits")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"{unit}, all else equal")
    panels[0].legend(fontsize=8)
    return figure
