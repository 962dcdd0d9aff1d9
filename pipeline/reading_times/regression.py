"""How much likelier reading times are with surprisal than without: regressions with statsmodels, on held-out items.

Mean times per word are fitted with ordinary least squares; the readings of several subjects with a mixed model that has
a random intercept for each subject. Log-likelihoods per word are compared on items that the regression was not fitted
on (Goodkind & Bicknell 2018; Wilcox et al. 2020; Oh & Schuler 2023). Letters: N readings, K columns, F folds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import Notice, UserError
from pipeline.reading_times.predictors import Observations
from pipeline.tables import Numbers

NUM_DRAWS = 10_000
DRAWS_AT_ONCE = 100
LN_2 = math.log(2.0)


@dataclass(frozen=True)
class Explained:
    """What surprisal adds to a regression of reading times."""

    delta: float  # log-likelihood per reading with it minus without, in nats, on held-out items
    delta_error: float  # its standard error over items
    p_value: float  # of a permutation test that swaps the two regressions item by item
    delta_fitted: float  # the same difference on the data that the regressions were fitted on
    chi_square: float  # twice ``delta_fitted``, summed over all readings; 3 degrees of freedom
    chi_square_p: float
    slopes: list[float]  # units of time per bit: of the word, the one before it, the one before that
    slope_errors: list[float]
    held_out: Numbers  # (N,) log-likelihood of each reading with surprisal

    def figures(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "held_out"}


def check_installed() -> None:
    """Raise ``UserError`` if statsmodels is missing."""
    try:
        import statsmodels.api  # noqa: F401
    except ImportError:
        raise UserError("statsmodels is not installed: pip install 'recurray[bench]'") from None


def design(*columns: Numbers) -> Numbers:
    """Return (N, K) a column of ones, then ``columns``, (N,) or (N, k) each, scaled to mean 0 and deviation 1.

    Scaling changes no likelihood, and spares the optimizer of a mixed model from handling different scales. A constant
    column is left out: it explains what the ones do, and with both a mixed model cannot be fitted.
    """
    wide = np.column_stack(columns)
    wide = wide[:, np.ptp(wide, axis=0) > 0]
    scaled = (wide - wide.mean(axis=0)) / wide.std(axis=0)
    return np.column_stack([np.ones(len(wide)), scaled])


def folds_of(items: Numbers, *, num_folds: int, seed: int) -> Numbers:
    """Return (N,) the fold of each reading. All readings of an item are in one fold; folds have about equal items.

    Raises:
        UserError: there are fewer than two items.
    """
    found = np.unique(items)
    if len(found) < 2:
        raise UserError("times of a single item cannot be held out from themselves; at least two items are needed")
    order = np.random.default_rng(seed).permutation(len(found))
    fold_of = np.empty(len(found), dtype=np.int64)
    fold_of[order] = np.arange(len(found)) % min(num_folds, len(found))
    return fold_of[np.searchsorted(found, items)]


class Regression:
    """A regression of times on columns: least squares or, given ``subjects``, a random intercept for each."""

    def __init__(self, times: Numbers, columns: Numbers, subjects: Sequence[str] | None = None) -> None:
        """Raise ``UserError`` unless there are more ``times``, and with ``subjects`` more words, than ``columns``."""
        import statsmodels.api as sm

        if len(times) <= columns.shape[1]:  # it would fit exactly, which says nothing
            raise UserError(
                f"{len(times):,} times are too few for a regression of {columns.shape[1]} coefficients; "
                "more must be left when those of a fold are held out"
            )
        mixed: Any = None if subjects is None else _mixed(times, columns, subjects)
        plain = sm.OLS(times, columns).fit()
        # if subjects do not differ, least squares are likeliest: an edge at which the search may end early, and at
        # which statsmodels predicts no intercepts
        self.is_mixed = mixed is not None and mixed.llf > plain.llf and float(np.asarray(mixed.cov_re)[0, 0]) > 0
        self.result = mixed if self.is_mixed else plain
        self.intercepts: dict[str, float] = {}
        if not self.is_mixed:
            self.variance = float(plain.ssr) / len(times)  # the maximum-likelihood estimate
            return
        if not self.result.converged:
            warnings.warn("a mixed model did not converge; its log-likelihood may be too low", Notice, stacklevel=2)
        self.variance = float(self.result.scale)
        self.intercepts = {
            subject: float(np.asarray(effect)[0]) for subject, effect in self.result.random_effects.items()
        }

    @property
    def log_likelihood(self) -> float:
        """The log-likelihood of all times that it was fitted on."""
        return float(self.result.llf)

    @property
    def coefficients(self) -> Numbers:
        """(K,) one for each column."""
        return np.asarray(self.result.fe_params if self.is_mixed else self.result.params)

    @property
    def errors(self) -> Numbers:
        """(K,) their standard errors."""
        return np.asarray(self.result.bse_fe if self.is_mixed else self.result.bse)

    def held_out(self, times: Numbers, columns: Numbers, subjects: Sequence[str] | None = None) -> Numbers:
        """Return (N,) the log-likelihood of each of ``times``, held out, with the variance found in fitting.

        A subject's intercept is the one predicted in fitting, 0 for a new subject.
        """
        mean = columns @ self.coefficients
        if subjects is not None:
            mean = mean + np.array([self.intercepts.get(subject, 0.0) for subject in subjects])
        return -0.5 * (math.log(2 * math.pi * self.variance) + (times - mean) ** 2 / self.variance)


def _mixed(times: Numbers, columns: Numbers, subjects: Sequence[str]) -> Any:
    """Return the result of a mixed model. Raises ``UserError`` if one of the ``columns`` depends on others."""
    import statsmodels.api as sm

    # many subjects read the same few words: more readings than columns do not mean that these can be told apart
    if np.linalg.matrix_rank(columns) < columns.shape[1]:
        raise UserError(
            f"the words of {len(times):,} times are too few, or too alike, for a regression of {columns.shape[1]} "
            "coefficients; more must be left when those of a fold are held out"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reported by the caller, once and in a sentence
        # Maximum likelihood, not REML: REML's likelihood is that of the times with the fixed effects removed, so it
        # depends on their units. Its difference between two regressions would change with nats or bits.
        return sm.MixedLM(times, columns, groups=np.asarray(subjects)).fit(reml=False)


def cross_validated(times: Numbers, columns: Numbers, folds: Numbers, subjects: Sequence[str] | None = None) -> Numbers:
    """Return (N,) the log-likelihood of each time under the regression fitted on the other folds."""
    result = np.empty(len(times))
    for fold in np.unique(folds):
        inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        fitted = Regression(times[outside], columns[outside], _some(subjects, outside))
        result[inside] = fitted.held_out(times[inside], columns[inside], _some(subjects, inside))
    return result


def _some(subjects: Sequence[str] | None, rows: Numbers) -> list[str] | None:
    return None if subjects is None else [subjects[row] for row in rows.tolist()]


def explained(data: Observations, *, num_folds: int = 10, seed: int = 1) -> dict[str, Explained]:
    """Return what each model's surprisal, of a word and the two before it, explains beyond ``data.baseline``.

    Raises:
        UserError: there are fewer than two items, too few times, or the times or a column of surprisal are constant.
    """
    from scipy.stats import chi2

    if np.ptp(data.times) == 0:
        raise UserError(f"every time is {data.times[0]:g}, so there is nothing to explain")
    folds = folds_of(data.items, num_folds=num_folds, seed=seed)
    without = design(*data.baseline.values())
    base = Regression(data.times, without, data.subjects)
    base_held_out = cross_validated(data.times, without, folds, data.subjects)
    result = {}
    for name, nats in data.surprisal.items():
        if (np.ptp(nats, axis=0) == 0).any():  # a deviation of 0 may have been rounded
            raise UserError(f"{name}: every word has the same surprisal, which can explain nothing")
        columns = design(*data.baseline.values(), nats)
        full = Regression(data.times, columns, data.subjects)
        held_out = cross_validated(data.times, columns, folds, data.subjects)
        gain, added = held_out - base_held_out, full.log_likelihood - base.log_likelihood
        per_bit = LN_2 / nats.std(axis=0)  # columns are in units of their deviation
        result[name] = Explained(
            delta=float(gain.mean()),
            delta_error=error_over_items(gain, data.items),
            p_value=permutation_p(gain, data.items, seed=seed),
            delta_fitted=added / len(data),
            chi_square=2 * added,
            chi_square_p=float(chi2.sf(2 * added, nats.shape[1])),
            slopes=(full.coefficients[-nats.shape[1] :] * per_bit).tolist(),
            slope_errors=(full.errors[-nats.shape[1] :] * per_bit).tolist(),
            held_out=held_out,
        )
    return result


def error_over_items(values: Numbers, items: Numbers) -> float:
    """Return the standard error of the mean of (N,) ``values``, taking the items as a sample.

    The mean is a ratio of sums over items; the error comes from their deviations (Cochran 1977, equation 6.13).
    """
    _, item = np.unique(items, return_inverse=True)
    sums, counts = np.bincount(item, weights=values), np.bincount(item)
    deviations = sums - values.mean() * counts
    num_items = len(counts)
    return float(math.sqrt(num_items / (num_items - 1) * (deviations**2).sum()) / len(values))


def permutation_p(differences: Numbers, groups: Numbers, *, seed: int = 1, num_draws: int = NUM_DRAWS) -> float:
    """Return how often the absolute sum of ``differences`` is as large with random signs, one for each group.

    (N,) differences of two regressions, swapped group by group: a paired permutation test, two-sided (Fisher 1935). All
    2ᴳ combinations are tried if they are no more than ``num_draws``.
    """
    _, group = np.unique(groups, return_inverse=True)
    sums = np.bincount(group, weights=differences)
    least = abs(sums.sum()) * (1 - 1e-12)
    if len(sums) <= math.log2(num_draws):
        ways = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float((np.abs((2.0 * ways - 1) @ sums) >= least).mean())
    generator, as_large = np.random.default_rng([seed, 1]), 0
    for begin in range(0, num_draws, DRAWS_AT_ONCE):
        signs = 2.0 * generator.integers(2, size=(min(DRAWS_AT_ONCE, num_draws - begin), len(sums))) - 1
        as_large += int((np.abs(signs @ sums) >= least).sum())
    return (as_large + 1) / (num_draws + 1)


def compared(first: Explained, second: Explained, data: Observations, *, seed: int = 1) -> dict[str, float]:
    """Return how much likelier times are under ``second`` than ``first`` per reading, and whether it can be chance.

    The tests swap word by word, as is usual, and item by item, which assumes only that items are independent.
    """
    gain = second.held_out - first.held_out
    return {
        "delta": float(gain.mean()),
        "delta_error": error_over_items(gain, data.items),
        "p_value_by_words": permutation_p(gain, np.arange(len(gain)), seed=seed),
        "p_value_by_items": permutation_p(gain, data.items, seed=seed),
    }
